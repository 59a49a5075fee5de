// A residual branch f of a block, with its norm and dropout, the norm before it or behind the sum as the recipe says:
//
//   y = x + drop(f(norm(x)))        or        y = norm(x + drop(f(x)))            all [n, C]
//
//   Tensor y = residual.Forward(context, batch, x, &saved, [&](const Tensor& h) { return mlp.Forward(context, h, &inner); });
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <string>

#include "model/context.h"
#include "model/layers/norm.h"

namespace trefoil {

class Residual {
 public:
  struct Saved {
    Norm::Saved norm;
    Tensor h;  // what the branch was given
  };
  // Where it is, and how often samples go around it.
  struct Place {
    std::string block;   // "blocks.3"
    std::string branch;  // "attention": the norm is BLOCK.BRANCH_norm, dropout is keyed by BLOCK.BRANCH
    int module = 0;
    Side side = Side::kInput;
    float around = 0;  // probability (Huang et al. 2016)
  };

  static void Declare(const ModelConfig& config, const Place& place, ParameterTable* table);
  Residual(const ParameterStore& store, const ModelConfig& config, const Place& place);

  using Branch = std::function<Tensor(const Tensor& h)>;
  // The branch gives a tensor of its own, which may be overwritten.
  Tensor Forward(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved,
                 const Branch& branch) const;
  // dx. branch: dh from the gradient of what the branch gave.
  Tensor Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Saved& saved,
                  const Branch& branch) const;

  // What SELECTIVE recomputation leaves out and makes again.
  void Forget(Saved* saved) const;
  void Recompute(const Context& context, Saved* saved) const;

 private:
  // The branch's result dropped out, + x. Overwrites it.
  Tensor Sum(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& branch) const;
  // The gradient of the branch's result from that of the sum: the same tensor where nothing is dropped.
  Tensor BranchGradient(const Context& context, const MicroBatch& batch, const Tensor& d_sum) const;
  // Elements, and samples.
  DropoutMask Elements(const Context& context, const MicroBatch& batch, int64_t columns) const;
  DropoutMask Around(const Context& context, const MicroBatch& batch, int64_t columns) const;

  const Place place_;
  const bool norm_first_;
  const float dropout_;
  const Norm norm_;
};

}  // namespace trefoil
