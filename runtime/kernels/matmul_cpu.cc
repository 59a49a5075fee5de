#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "runtime/kernels/vector.h"

namespace trefoil::cpu {
namespace {

using dnnl::memory;

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Everything that a compiled product depends on.
struct Call {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, bias;
  DType in, out;
  int threads;
  auto operator<=>(const Call&) const = default;
};

struct Product {
  dnnl::matmul primitive;
  memory a, b, bias, out;  // without elements; set for each call
  memory::desc scratchpad;
};

// A row-major matrix [rows, columns], or the transpose of a row-major [columns, rows].
memory::desc Matrix(int64_t rows, int64_t columns, DType dtype, bool transpose) {
  return memory::desc({rows, columns}, TypeOf(dtype),
                      transpose ? memory::dims{1, rows} : memory::dims{columns, 1});
}

Product Compile(const Call& call, const dnnl::engine& engine) {
  const memory::desc a = Matrix(call.m, call.k, call.in, call.transpose_a);
  const memory::desc b = Matrix(call.k, call.n, call.in, call.transpose_b);
  const memory::desc out = Matrix(call.m, call.n, call.out, false);
  const memory::desc bias = call.bias ? Matrix(1, call.n, call.in, false) : memory::desc();
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (call.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const auto description = call.bias ? dnnl::matmul::desc(a, b, bias, out) : dnnl::matmul::desc(a, b, out);
  const dnnl::matmul::primitive_desc chosen(description, attributes, engine);
  return Product{dnnl::matmul(chosen),
                 memory(a, engine, nullptr),
                 memory(b, engine, nullptr),
                 call.bias ? memory(bias, engine, nullptr) : memory(),
                 memory(out, engine, nullptr),
                 chosen.scratchpad_desc()};
}

// oneDNN runs on as many OpenMP threads as the calling thread's setting says.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadLimit() { omp_set_num_threads(before_); }

 private:
  const int before_;
};

Tensor Scratch(const CpuContext& cpu, DType dtype, const Shape& shape) {
  Arena::Block block =
      cpu.arena->Allocate(shape.elements() * static_cast<int64_t>(SizeOf(dtype)), Purpose::kWorkspace);
  return Tensor(std::move(block.owner), block.data, dtype, shape);
}

Tensor ToFloat(const CpuContext& cpu, const Tensor& x) {
  Tensor copy = Scratch(cpu, DType::kFloat32, x.shape());
  Cast(cpu, x, copy);
  return copy;
}

// out = bias in every row, or zero: a product over no elements.
void BiasOnly(const CpuContext& cpu, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (accumulate == Accumulate::kNo) Fill(cpu, out, 0);
  if (!bias.defined()) return;
  if (out.dtype() == bias.dtype()) {
    AddBias(cpu, out, bias);
  } else {
    AddBias(cpu, out, ToFloat(cpu, bias));
  }
}

}  // namespace

struct MatmulEngine::Implementation {
  const bool bfloat16;
  const dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Call, Product> products = {};
};

MatmulEngine::MatmulEngine(bool bfloat16) : implementation_(new Implementation{.bfloat16 = bfloat16}) {}
MatmulEngine::~MatmulEngine() = default;

void MatmulEngine::Matmul(const CpuContext& cpu, const Tensor& a, Transpose transpose_a, const Tensor& b,
                          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (out.elements() == 0) return;
  Implementation& self = *implementation_;
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t k = a.dim(ta ? 0 : 1);
  if (k == 0) return BiasOnly(cpu, out, accumulate, bias);
  if (a.dtype() == DType::kBFloat16 && !self.bfloat16) {
    // Without the instructions, oneDNN's bf16 is slower than converting.
    const Tensor wide = out.dtype() == DType::kFloat32 ? out : Scratch(cpu, DType::kFloat32, out.shape());
    Matmul(cpu, ToFloat(cpu, a), transpose_a, ToFloat(cpu, b), transpose_b, wide, accumulate,
           bias.defined() ? ToFloat(cpu, bias) : Tensor());
    if (out.dtype() != DType::kFloat32) Cast(cpu, wide, out);
    return;
  }
  const Call call = {out.dim(0), out.dim(1), k,           ta,         tb,
                     accumulate == Accumulate::kYes,      bias.defined(), a.dtype(), out.dtype(), cpu.threads};
  const ThreadLimit limit(cpu.threads);
  auto found = self.products.find(call);
  if (found == self.products.end()) {
    constexpr size_t kMost = 1024;  // far above what a step uses; generation may pass through many lengths
    if (self.products.size() >= kMost) self.products.clear();
    found = self.products.emplace(call, Compile(call, self.engine)).first;
  }
  Product& product = found->second;
  const Workspace scratch(cpu, static_cast<int64_t>(product.scratchpad.get_size() / sizeof(float)) + 1);
  product.a.set_data_handle(a.raw());
  product.b.set_data_handle(b.raw());
  product.out.set_data_handle(out.raw());
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, product.a},
      {DNNL_ARG_WEIGHTS, product.b},
      {DNNL_ARG_DST, product.out},
      {DNNL_ARG_SCRATCHPAD, memory(product.scratchpad, self.engine, scratch.data())}};
  if (bias.defined()) {
    product.bias.set_data_handle(bias.raw());
    arguments.emplace(DNNL_ARG_BIAS, product.bias);
  }
  product.primitive.execute(self.stream, arguments);
  self.stream.wait();
}

}  // namespace trefoil::cpu
