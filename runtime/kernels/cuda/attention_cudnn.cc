#include <cudnn_frontend.h>
#include <glog/logging.h>

#include <cmath>
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
                            int64_t row_stride) {
  return Tensor_attributes()
      .set_name(name)
      .set_uid(number)
      .set_dim({s.batch, heads, s.tokens, s.head_dim})
      .set_stride({s.tokens * row_stride, s.head_dim, row_stride, 1});
}

void Describe(Tensor_attributes& tensor, AttentionOperand number, const AttentionShape& s, int64_t heads,
              int64_t row_stride) {
  const Tensor_attributes as = Described("", number, s, heads, row_stride);
  tensor.set_output(true).set_uid(number).set_dim(as.get_dim()).set_stride(as.get_stride());
}

void DescribeStatistics(Tensor_attributes& tensor, const AttentionShape& s) {
  tensor.set_uid(kStatistics)
      .set_data_type(DataType_t::FLOAT)
      .set_dim({s.batch, s.heads, s.tokens, 1})
      .set_stride({s.heads * s.tokens, s.tokens, 1, 1});
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

// cuDNN reaches rows in accesses of 16 bytes, and its dropout is not a function of global indices.
bool Takes(const AttentionShape& shape, const AttentionDropout& dropout, std::initializer_list<Tensor> operands) {
  if (dropout.mask.probability > 0) return false;
  for (const Tensor& x : operands) {
    if (reinterpret_cast<uintptr_t>(x.raw()) % 16 != 0) return false;
  }
  return CudnnTakesAttention(operands.begin()->dtype(), shape.head_dim, shape.tokens);
}

std::string Text(const AttentionShape& s) {
  return "[batch " + std::to_string(s.batch) + ", tokens " + std::to_string(s.tokens) + ", heads " +
         std::to_string(s.heads) + ", key/value heads " + std::to_string(s.kv_heads) + ", head dim " +
         std::to_string(s.head_dim) + "] bf16";
}

}  // namespace

std::unique_ptr<Graph> AttentionGraph(const AttentionShape& s, AttentionPass pass) {
  auto graph = std::make_unique<Graph>();
  graph->set_io_data_type(DataType_t::BFLOAT16)
      .set_intermediate_data_type(DataType_t::FLOAT)
      .set_compute_data_type(DataType_t::FLOAT);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const int64_t columns = s.columns(), out_columns = s.heads * s.head_dim;
  const auto q = graph->tensor(Described("q", kQ, s, s.heads, columns));
  const auto k = graph->tensor(Described("k", kK, s, s.kv_heads, columns));
  const auto v = graph->tensor(Described("v", kV, s, s.kv_heads, columns));
  if (pass == AttentionPass::kForward) {
    const auto [out, statistics] = graph->sdpa(q, k, v,
                                               SDPA_attributes()
                                                   .set_name("attention")
                                                   .set_generate_stats(true)
                                                   .set_causal_mask(true)
                                                   .set_attn_scale(scale));
    Describe(*out, kOut, s, s.heads, out_columns);
    statistics->set_output(true);
    DescribeStatistics(*statistics, s);
    return graph;
  }
  const auto out = graph->tensor(Described("out", kOut, s, s.heads, out_columns));
  const auto d_out = graph->tensor(Described("d_out", kDOut, s, s.heads, out_columns));
  Tensor_attributes described;
  DescribeStatistics(described.set_name("statistics"), s);
  const auto statistics = graph->tensor(described);
  const auto [d_q, d_k, d_v] =
      graph->sdpa_backward(q, k, v, out, d_out, statistics,
                           SDPA_backward_attributes()
                               .set_name("attention_backward")
                               .set_causal_mask(true)
                               .set_attn_scale(scale)
                               .set_deterministic_algorithm(pass == AttentionPass::kDeterministicBackward));
  Describe(*d_q, kDQ, s, s.heads, columns);
  Describe(*d_k, kDK, s, s.kv_heads, columns);
  Describe(*d_v, kDV, s, s.kv_heads, columns);
  return graph;
}

struct CudnnAttention::Compiled {
  struct Plan {
    std::unique_ptr<Graph> graph;
    int64_t workspace_bytes = 0;
  };
  using Key = std::tuple<AttentionPass, int64_t, int64_t, int64_t, int64_t, int64_t>;

  std::mutex mutex;
  cudnnHandle_t handle = nullptr;  // made by the first call, on the device's thread
  std::map<Key, Plan> plans;

  const Plan& PlanOf(const AttentionShape& s, AttentionPass pass) {
    Plan& plan = plans[{pass, s.batch, s.tokens, s.heads, s.kv_heads, s.head_dim}];
    if (plan.graph != nullptr) return plan;
    plan.graph = AttentionGraph(s, pass);
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

  void Run(const CudaContext& cuda, const AttentionShape& shape, AttentionPass pass,
           std::unordered_map<int64_t, void*> operands) {
    const std::lock_guard lock(mutex);
    const auto check = [](cudnnStatus_t status, const char* call) {
      CHECK(status == CUDNN_STATUS_SUCCESS)
          << call << ": " << cudnnGetErrorString(status) << "; runtime.attention: OWN does without cuDNN";
    };
    if (handle == nullptr) check(cudnnCreate(&handle), "cudnnCreate");
    check(cudnnSetStream(handle, cuda.stream), "cudnnSetStream");
    const Plan& plan = PlanOf(shape, pass);
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

bool CudnnAttention::Forward(const CudaContext& cuda, const Tensor& qkv, const AttentionShape& shape,
                             const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  if (!Takes(shape, dropout, {qkv, out, log_sum_exp})) return false;
  if (out.elements() == 0) return true;
  const QkvOffsets at(shape);
  BFloat16* const x = qkv.data<BFloat16>();
  compiled_->Run(cuda, shape, AttentionPass::kForward,
                 {{kQ, x + at.q}, {kK, x + at.k}, {kV, x + at.v}, {kOut, out.raw()}, {kStatistics, log_sum_exp.raw()}});
  return true;
}

bool CudnnAttention::Backward(const CudaContext& cuda, const Tensor& d_out, const Tensor& qkv, const Tensor& out,
                              const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                              const Tensor& d_qkv) {
  if (!Takes(shape, dropout, {d_out, qkv, out, log_sum_exp, d_qkv})) return false;
  if (qkv.elements() == 0) return true;
  const QkvOffsets at(shape);
  BFloat16 *const x = qkv.data<BFloat16>(), *const dx = d_qkv.data<BFloat16>();
  compiled_->Run(cuda, shape, backward_,
                 {{kQ, x + at.q},
                  {kK, x + at.k},
                  {kV, x + at.v},
                  {kOut, out.raw()},
                  {kStatistics, log_sum_exp.raw()},
                  {kDOut, d_out.raw()},
                  {kDQ, dx + at.q},
                  {kDK, dx + at.k},
                  {kDV, dx + at.v}});
  return true;
}

}  // namespace trefoil::cuda
