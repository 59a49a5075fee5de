// Rows of a micro-batch chosen, and their gradients brought back: which tokens have targets, where patches go.
//
//   Tensor m = ChooseRows(context, h, batch.target_rows);            // [N, C] -> [M, C]
//   Tensor dh = ChooseRows(context, dm, batch.row_targets);          // each row is chosen once at most: the inverse
#pragma once

#include "model/context.h"

namespace trefoil {

// y[i] = x[rows[i]], zeros where rows[i] is outside [first, first + n): x holds the rows from `first` on.
inline Tensor ChooseRows(const Context& context, const Tensor& x, const Tensor& rows, int64_t first = 0) {
  const Tensor y = context.New({rows.dim(0), x.dim(1)});
  Embedding(context.device, rows, x, first, y);
  return y;
}

}  // namespace trefoil
