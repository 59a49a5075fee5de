// Attention as graphs that cuDNN's engines recognise: what kernels/cuda/attention_cudnn.cc runs, apart for tests that
// have no GPU to run it on.
//
// A graph says how far the rows of its operands are apart: heads are columns of wider tensors (runtime/attention.h),
// and so are their gradients. Its statistics are log-sum-exps of the scaled scores, natural logarithms, as ours are.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>

#include "runtime/ops.h"

namespace cudnn_frontend::graph {
class Graph;
}

namespace trefoil::cuda {

enum class AttentionPass { kForward, kBackward, kDeterministicBackward };

// The numbers by which a graph knows its operands.
enum AttentionOperand : int64_t { kQ = 1, kK, kV, kOut, kStatistics, kDOut, kDQ, kDK, kDV };

// Elements from one row to the next.
struct AttentionStrides {
  int64_t q, k, v, d_q = 0, d_k = 0, d_v = 0;
  auto operator<=>(const AttentionStrides&) const = default;
};

// The graph of a pass over such a shape, which CudnnAttention takes, not yet lowered to a plan.
std::unique_ptr<cudnn_frontend::graph::Graph> AttentionGraph(const AttentionShape& shape,
                                                             const AttentionStrides& strides, AttentionPass pass);

}  // namespace trefoil::cuda
