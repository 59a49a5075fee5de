#include <cudnn_frontend.h>
#include <glog/logging.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>

#include "runtime/devices/cuda.h"
#include "runtime/kernels/cuda/cuda.h"
#include "runtime/kernels/cuda/cudnn_graph.h"

namespace trefoil::cuda {
namespace {

using cudnn_frontend::DataType_t;
using cudnn_frontend::graph::Graph;
using cudnn_frontend::graph::SDPA_attributes;
using cudnn_frontend::graph::SDPA_backward_attributes;
using cudnn_frontend::graph::Tensor_attributes;

// cuDNN's order of dims is always batch, head, token, column.
Tensor_attributes Described(const char* name, AttentionOperand number, const AttentionShape& s, int64_t heads,
                            int64_t tokens, int64_t row_stride) {
  return Tensor_attributes()
      .set_name(name)
      .set_uid(number)
      .set_dim({s.batch, heads, tokens, s.head_dim})
      .set_stride({tokens * row_stride, s.head_dim, row_stride, 1});
}

void Describe(Tensor_attributes& tensor, AttentionOperand number, const AttentionShape& s, int64_t heads,
              int64_t tokens, int64_t row_stride) {
  const Tensor_attributes as = Described("", number, s, heads, tokens, row_stride);
  tensor.set_output(true).set_uid(number).set_dim(as.get_dim()).set_stride(as.get_stride());
}

void DescribeStatistics(Tensor_attributes& tensor, const AttentionShape& s) {
  const int64_t tokens = s.tokens.tokens();
  tensor.set_uid(kStatistics)
      .set_data_type(DataType_t::FLOAT)
      .set_dim({s.batch, s.heads, tokens, 1})
      .set_stride({s.heads * tokens, tokens, 1, 1});
}

const char* NameOf(AttentionPass pass) {
  switch (pass) {
    case AttentionPass::kForward:
      return "attention";
    case AttentionPass::kBackward:
      return "attention backward";
    case AttentionPass::kDeterministicBackward:
      return "deterministic attention backward";
  }
  return "";
}

bool OneRange(const TokenRanges& tokens) { return tokens[0].tokens == tokens.tokens(); }

// cuDNN reaches rows in accesses of 16 bytes, its dropout is not a function of global indices, and its causal mask is
// that of tokens with themselves; of windows, lengths, starts, other scales and biases it is told nothing.
bool Takes(const AttentionShape& s, const AttentionDropout& dropout, std::initializer_list<HeadColumns> operands) {
  if (dropout.probability > 0 || s.lengths.defined() || s.starts.defined() || s.scale != 0) return false;
  if (s.window > 0) return false;
  if (s.causal && !(OneRange(s.tokens) && s.keys() == s.tokens)) return false;
  for (const HeadColumns& x : operands) {
    if (x.rows.dtype() != DType::kBFloat16 || x.first % 8 != 0 || x.rows.dim(1) % 8 != 0) return false;
    if (reinterpret_cast<uintptr_t>(x.rows.raw()) % 16 != 0) return false;
  }
  return CudnnTakesAttention(DType::kBFloat16, s.head_dim, std::min(s.tokens.tokens(), s.keys().tokens()));
}

void* Start(const HeadColumns& x) { return x.rows.data<BFloat16>() + x.first; }

AttentionStrides StridesOf(const AttentionHeads& in) {
  return {.q = in.q.rows.dim(1), .k = in.k.rows.dim(1), .v = in.v.rows.dim(1)};
}

std::string Text(const AttentionShape& s) {
  return "[batch " + std::to_string(s.batch) + ", tokens " + std::to_string(s.tokens.tokens()) + ", keys " +
         std::to_string(s.keys().tokens()) + (s.causal ? ", causal, heads " : ", heads ") +
         std::to_string(s.heads) + ", key/value heads " + std::to_string(s.kv_heads) + ", head dim " +
         std::to_string(s.head_dim) + "] bf16";
}

}  // namespace

std::unique_ptr<Graph> AttentionGraph(const AttentionShape& s, const AttentionStrides& strides, AttentionPass pass) {
  auto graph = std::make_unique<Graph>();
  graph->set_io_data_type(DataType_t::BFLOAT16)
      .set_intermediate_data_type(DataType_t::FLOAT)
      .set_compute_data_type(DataType_t::FLOAT);
  const int64_t out_columns = s.heads * s.head_dim, queries = s.tokens.tokens(), keys = s.keys().tokens();
  const auto q = graph->tensor(Described("q", kQ, s, s.heads, queries, strides.q));
  const auto k = graph->tensor(Described("k", kK, s, s.kv_heads, keys, strides.k));
  const auto v = graph->tensor(Described("v", kV, s, s.kv_heads, keys, strides.v));
  if (pass == AttentionPass::kForward) {
    const auto [out, statistics] = graph->sdpa(q, k, v,
                                               SDPA_attributes()
                                                   .set_name("attention")
                                                   .set_generate_stats(true)
                                                   .set_causal_mask(s.causal)
                                                   .set_attn_scale(s.score_scale()));
    Describe(*out, kOut, s, s.heads, queries, out_columns);
    statistics->set_output(true);
    DescribeStatistics(*statistics, s);
    return graph;
  }
  const auto out = graph->tensor(Described("out", kOut, s, s.heads, queries, out_columns));
  const auto d_out = graph->tensor(Described("d_out", kDOut, s, s.heads, queries, out_columns));
  Tensor_attributes described;
  DescribeStatistics(described.set_name("statistics"), s);
  const auto statistics = graph->tensor(described);
  const auto [d_q, d_k, d_v] =
      graph->sdpa_backward(q, k, v, out, d_out, statistics,
                           SDPA_backward_attributes()
                               .set_name("attention_backward")
                               .set_causal_mask(s.causal)
                               .set_attn_scale(s.score_scale())
                               .set_deterministic_algorithm(pass == AttentionPass::kDeterministicBackward));
  Describe(*d_q, kDQ, s, s.heads, queries, strides.d_q);
  Describe(*d_k, kDK, s, s.kv_heads, keys, strides.d_k);
  Describe(*d_v, kDV, s, s.kv_heads, keys, strides.d_v);
  return graph;
}

struct CudnnAttention::Compiled {
  struct Plan {
    std::unique_ptr<Graph> graph;
    int64_t workspace_bytes = 0;
  };
  using Key = std::tuple<AttentionPass, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, AttentionStrides>;

  std::mutex mutex;
  cudnnHandle_t handle = nullptr;  // made by the first call, on the device's thread
  std::map<Key, Plan> plans;

  const Plan& PlanOf(const AttentionShape& s, const AttentionStrides& strides, AttentionPass pass) {
    Plan& plan = plans[{pass, s.causal, s.batch, s.tokens.tokens(), s.keys().tokens(), s.heads, s.kv_heads, s.head_dim,
                        strides}];
    if (plan.graph != nullptr) return plan;
    plan.graph = AttentionGraph(s, strides, pass);
    const auto check = [&](cudnn_frontend::error_t error, const char* step) {
      CHECK(error.is_good()) << "cuDNN has no plan for " << NameOf(pass) << " " << Text(s) << ": " << step << ": "
                             << error.get_message() << "; runtime.attention: OWN does without cuDNN";
    };
    check(plan.graph->validate(), "validate");
    check(plan.graph->build_operation_graph(handle), "build_operation_graph");
    check(plan.graph->create_execution_plans({cudnn_frontend::HeurMode_t::A}), "create_execution_plans");
    check(plan.graph->check_support(), "check_support");
    check(plan.graph->build_plans(), "build_plans");
    check(plan.graph->get_workspace_size(plan.workspace_bytes), "get_workspace_size");
    return plan;
  }

  void Run(const CudaContext& cuda, const AttentionShape& shape, const AttentionStrides& strides, AttentionPass pass,
           std::unordered_map<int64_t, void*> operands) {
    const std::lock_guard lock(mutex);
    const auto check = [](cudnnStatus_t status, const char* call) {
      CHECK(status == CUDNN_STATUS_SUCCESS)
          << call << ": " << cudnnGetErrorString(status) << "; runtime.attention: OWN does without cuDNN";
    };
    if (handle == nullptr) check(cudnnCreate(&handle), "cudnnCreate");
    check(cudnnSetStream(handle, cuda.stream), "cudnnSetStream");
    const Plan& plan = PlanOf(shape, strides, pass);
    const Arena::Block workspace = cuda.arena->Allocate(plan.workspace_bytes, Purpose::kWorkspace);
    cudnn_frontend::error_t error = plan.graph->execute(handle, operands, workspace.data);
    CHECK(error.is_good()) << "cuDNN's " << NameOf(pass) << " " << Text(shape) << ": " << error.get_message();
  }
};

CudnnAttention::CudnnAttention(bool deterministic)
    : backward_(deterministic ? AttentionPass::kDeterministicBackward : AttentionPass::kBackward),
      compiled_(std::make_unique<Compiled>()) {}

CudnnAttention::~CudnnAttention() {
  compiled_->plans.clear();
  if (compiled_->handle != nullptr) cudnnDestroy(compiled_->handle);
}

bool CudnnAttention::Forward(const CudaContext& cuda, const AttentionHeads& in, const AttentionShape& shape,
                             const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  if (in.bias.defined() || !Takes(shape, dropout, {in.q, in.k, in.v, {out, 0}})) return false;
  if (out.elements() == 0) return true;
  compiled_->Run(cuda, shape, StridesOf(in), AttentionPass::kForward,
                 {{kQ, Start(in.q)},
                  {kK, Start(in.k)},
                  {kV, Start(in.v)},
                  {kOut, out.raw()},
                  {kStatistics, log_sum_exp.raw()}});
  return true;
}

bool CudnnAttention::Backward(const CudaContext& cuda, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                              const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                              const AttentionHeads& gradients, Accumulate) {
  if (in.bias.defined() ||
      !Takes(shape, dropout, {in.q, in.k, in.v, {d_out, 0}, {out, 0}, gradients.q, gradients.k, gradients.v})) {
    return false;
  }
  if (out.elements() == 0) return true;
  AttentionStrides strides = StridesOf(in);
  strides.d_q = gradients.q.rows.dim(1), strides.d_k = gradients.k.rows.dim(1), strides.d_v = gradients.v.rows.dim(1);
  compiled_->Run(cuda, shape, strides, backward_,
                 {{kQ, Start(in.q)},
                  {kK, Start(in.k)},
                  {kV, Start(in.v)},
                  {kOut, out.raw()},
                  {kStatistics, log_sum_exp.raw()},
                  {kDOut, d_out.raw()},
                  {kDQ, Start(gradients.q)},
                  {kDK, Start(gradients.k)},
                  {kDV, Start(gradients.v)}});
  return true;
}

}  // namespace trefoil::cuda
