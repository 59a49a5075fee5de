#include "model/context.h"

#include "runtime/random.h"

namespace trefoil {

Tensor Context::GatherTokens(const Tensor& x) const {
  if (!splits_tokens()) return x;
  const Tensor all = New({x.dim(0) * tensor.size(), x.dim(1)});
  tensor.AllGather(x, all);
  return all;
}

Tensor Context::ReduceTokens(const Tensor& x) const {
  if (!splits_tokens()) {
    tensor.AllReduceSum(x);
    return x;
  }
  const Tensor mine = New({x.dim(0) / tensor.size(), x.dim(1)});
  tensor.ReduceScatterSum(x, mine);
  return mine;
}

DropoutMask MaskOf(const Context& context, const MicroBatch& batch, float probability, const std::string& site,
                   int64_t columns, Side side) {
  const Sequences& sequences = batch.of(side);
  return {.probability = batch.training ? probability : 0,
          .key = RandomKey(context.dropout_seed, "dropout/" + site),
          .first_row = batch.first_sample * sequences.tokens.tokens() + context.FirstLocalRow(batch.rows(side)),
          .global_columns = columns,
          .tokens = sequences.tokens,
          .length = sequences.is_whole() ? 0 : sequences.length};
}

}  // namespace trefoil
