// Attention as graphs that cuDNN's engines recognise: what kernels/cuda/attention_cudnn.cc runs, apart for tests that have
// no GPU to run it on.
//
// A graph says where the operands lie, by strides: q, k and v are columns of one tensor (runtime/ops.h), and so are
// their gradients. Its statistics are log-sum-exps of the scaled scores, natural logarithms, as ours are.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/ops.h"

namespace cudnn_frontend::graph {
class Graph;
}

namespace trefoil::cuda {

enum class AttentionPass { kForward, kBackward, kDeterministicBackward };

// The numbers by which a graph knows its operands. Where q, k and v and their gradients start: QkvOffsets.
enum AttentionOperand : int64_t { kQ = 1, kK, kV, kOut, kStatistics, kDOut, kDQ, kDK, kDV };

// In elements from the start of the fused tensor.
struct QkvOffsets {
  explicit QkvOffsets(const AttentionShape& shape)
      : k(shape.heads * shape.head_dim), v((shape.heads + shape.kv_heads) * shape.head_dim) {}
  const int64_t q = 0, k, v;
};

// The graph of a pass over such a shape, not yet lowered to a plan.
std::unique_ptr<cudnn_frontend::graph::Graph> AttentionGraph(const AttentionShape& shape, AttentionPass pass);

}  // namespace trefoil::cuda
