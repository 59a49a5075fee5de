#include "model/layers/head_exchange.h"

#include "model/layers/rows.h"

namespace trefoil {
namespace {

// Calls f(rank, columns of x, columns of the rank's rows, how many) for each rank's part of each group.
template <typename F>
void ForEachPart(int ranks, const std::vector<int64_t>& groups, const F& f) {
  for (int rank = 0; rank < ranks; ++rank) {
    int64_t group_begin = 0, begin = 0;
    for (const int64_t columns : groups) {
      CHECK_EQ(columns % ranks, 0) << "heads of " << ranks << " ranks";
      const int64_t part = columns / ranks;
      f(rank, group_begin + rank * part, begin, part);
      group_begin += columns;
      begin += part;
    }
  }
}

}  // namespace

Tensor ToHeads(const Context& context, const Sequences& sequences, const Tensor& x,
               const std::vector<int64_t>& groups) {
  const int ranks = context.token_ranks->size();
  const int64_t rows = x.dim(0), columns = x.dim(1) / ranks;
  const Tensor sent = context.New({ranks * rows, columns}), received = context.New({ranks * rows, columns});
  ForEachPart(ranks, groups, [&](int rank, int64_t from, int64_t to, int64_t part) {
    CopyColumns(context.device, {x, from}, part, {sent.Rows(rank * rows, (rank + 1) * rows), to});
  });
  context.token_ranks->AllToAll(sent, received);
  return ChooseRows(context, received, sequences.gathered_rows);
}

Tensor ToTokens(const Context& context, const Sequences& sequences, const Tensor& x,
                const std::vector<int64_t>& groups) {
  const int ranks = context.token_ranks->size();
  const int64_t rows = x.dim(0) / ranks, columns = x.dim(1);
  const Tensor sent = ChooseRows(context, x, sequences.rows_of_gathered), received = context.New(x.shape());
  context.token_ranks->AllToAll(sent, received);
  const Tensor y = context.New({rows, ranks * columns});
  ForEachPart(ranks, groups, [&](int rank, int64_t to, int64_t from, int64_t part) {
    CopyColumns(context.device, {received.Rows(rank * rows, (rank + 1) * rows), from}, part, {y, to});
  });
  return y;
}

}  // namespace trefoil
