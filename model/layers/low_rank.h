// Low-rank adapters beside a linear layer's matrix W [out, in]: y = x W^T + b + (alpha / rank) x A^T B^T, with A [rank,
// in] normal and B [out, rank] zero at first, so that they change nothing until they are trained (Hu et al. 2021,
// section 4.1).
//
// Over the tensor ranks they are split as W is:
//
//   column: B by its rows (outputs), A whole.    row: A by its columns (inputs), B whole.
//
// What a rank adds to a partial sum that the layer has added up in any case, y of a row layer and dx of a column layer,
// is its part of the adapters' sum too: they send no message. The whole matrix's gradient is a partial sum, of which
// the reducer adds up the ranks' (Parameter::summed_over).
//
// A column layer of several parameters has adapters of its own for each that is adapted. All products are of the
// working dtype.
#pragma once

#include <string>
#include <vector>

#include "model/context.h"
#include "parallel/parameter_store.h"

namespace trefoil {

// PREFIX.lora_a and PREFIX.lora_b.
struct AdapterShape {
  std::string prefix;
  int64_t outputs = 0, inputs = 0, rank = 0;
  bool column = true;  // how W is split
};
void DeclareAdapter(const AdapterShape& shape, int module, ParameterTable* table);
// Whether a parameter of that name is one's matrix.
bool IsAdapter(const std::string& name);

class Adapters {
 public:
  // scale: alpha / rank.
  explicit Adapters(float scale) : scale_(scale) {}
  // Of the layer's outputs on this rank from number `first` on.
  void Add(const ParameterStore& store, const std::string& prefix, int64_t first);

  bool empty() const { return adapters_.empty(); }
  bool trained() const;
  // y += scale x A^T B^T.  x: [N, in], y: [N, out], as they are on this rank.
  void Forward(const Context& context, const Tensor& x, const Tensor& y) const;
  // dx += scale dy B A, and the matrices' gradients, from the layer's dy and x.
  void Backward(const Context& context, const Tensor& dy, const Tensor& x, const Tensor& dx,
                WeightGradients& weights) const;

 private:
  struct Adapter {
    ParameterView a, b;
    int64_t first = 0;
  };
  // scale x A^T: [N, rank].
  Tensor Narrow(const Context& context, const Adapter& adapter, const Tensor& x) const;
  // B among zeros for the layer's other outputs: [outputs, rank].
  static Tensor Wide(const Context& context, const Adapter& adapter, int64_t outputs);

  const float scale_;
  std::vector<Adapter> adapters_;
};

}  // namespace trefoil
