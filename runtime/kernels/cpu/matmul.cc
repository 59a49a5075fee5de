#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "runtime/host/cpu_features.h"
#include "runtime/kernels/cpu/gemm.h"
#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

using dnnl::memory;

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Holds oneDNN to the level of our own kernels. Counts before its first use in a process only, after which it changes
// nothing.
void CapInstructions() {
  const auto isa = [] {
    switch (UsedCpuLevel()) {
      case CpuLevel::kAvx2:
        return dnnl::cpu_isa::avx2;
      case CpuLevel::kAvx512:
        return dnnl::cpu_isa::avx512_core;
      case CpuLevel::kAvx512Bf16:
        return dnnl::cpu_isa::avx512_core_bf16;
      case CpuLevel::kAmx:
        return dnnl::cpu_isa::all;
    }
    LOG(FATAL) << "no such level";
  };
  dnnl::set_max_cpu_isa(isa());
}

// Everything that a compiled product depends on.
struct Call {
  int64_t m, n, k, lda, ldb, ldc;
  bool transpose_a, transpose_b, accumulate, bias;
  DType in, out;
  auto operator<=>(const Call&) const = default;
};

struct Product {
  dnnl::matmul primitive;  // not of a dry call
  memory::desc a, b, bias, out, scratchpad;
};

// A row-major matrix with rows of `ld` elements, or the transpose of one.
memory::desc Matrix(int64_t rows, int64_t columns, int64_t ld, DType dtype, bool transpose) {
  return memory::desc({rows, columns}, TypeOf(dtype), transpose ? memory::dims{1, ld} : memory::dims{ld, 1});
}

Product Compile(const Call& call, const dnnl::engine& engine, bool dry) {
  Product product = {.primitive = {},
                     .a = Matrix(call.m, call.k, call.lda, call.in, call.transpose_a),
                     .b = Matrix(call.k, call.n, call.ldb, call.in, call.transpose_b),
                     .bias = call.bias ? Matrix(1, call.n, call.n, call.in, false) : memory::desc(),
                     .out = Matrix(call.m, call.n, call.ldc, call.out, false),
                     .scratchpad = {}};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (call.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const auto description = call.bias ? dnnl::matmul::desc(product.a, product.b, product.bias, product.out)
                                     : dnnl::matmul::desc(product.a, product.b, product.out);
  const dnnl::matmul::primitive_desc chosen(description, attributes, engine);
  if (!dry) product.primitive = dnnl::matmul(chosen);
  product.scratchpad = chosen.scratchpad_desc();
  return product;
}

// oneDNN runs on as many OpenMP threads as the calling thread's setting says.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_;
};

// The result is cut into pieces that depend on its shape alone, each computed by one thread: oneDNN's own threads may
// split the inner dim, and then the sums would depend on their number.
struct Pieces {
  int64_t rows, columns;  // of a piece
};
Pieces Cut(int64_t m, int64_t n, bool transpose_a) {
  constexpr int64_t kSmallest = 64;
  Pieces piece = {m, n};
  const int most = m * n >= (int64_t{1} << 22) ? 16 : 8;
  // Every row of pieces packs b again. A column of pieces packs a again only if a is transposed.
  const int64_t favour = transpose_a ? 1 : 4;
  for (int count = 1; count < most; count *= 2) {
    int64_t& side = piece.columns * favour >= piece.rows && piece.columns >= 2 * kSmallest ? piece.columns : piece.rows;
    if (side < 2 * kSmallest) break;
    side = Blocks(Blocks(side, 2), kSmallest) * kSmallest;
  }
  return piece;
}

void* At(const Tensor& x, int64_t element) {
  return static_cast<char*>(x.raw()) + element * static_cast<int64_t>(SizeOf(x.dtype()));
}

// out = bias in every row, or zero: a product over no elements.
void BiasOnly(const CpuContext& cpu, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (accumulate == Accumulate::kNo) Fill(cpu, out, 0);
  if (!bias.defined()) return;
  if (out.dtype() == bias.dtype()) return AddBias(cpu, out, bias);
  const Tensor wide = NewWorkspace(cpu, DType::kFloat32, bias.shape());
  Cast(cpu, bias, wide);
  AddBias(cpu, out, wide);
}

}  // namespace

struct MatmulEngine::Compiled {
  Compiled() { CapInstructions(); }
  const dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::map<Call, Product> products;
};

int64_t MatmulEngine::compiled_bytes() const {
  // oneDNN 2.6.3, AVX-512 BF16, 40 products of different sizes: 15 KiB of code and 41 of descriptions each; 66 and 62 where
  // every side leaves a rest. By oneDNN's own tiles of AMX the code is of the same order.
  constexpr int64_t kEach = 64 << 10;
  return compiled_ == nullptr ? 0 : kEach * static_cast<int64_t>(compiled_->products.size());
}

MatmulEngine::MatmulEngine() = default;
MatmulEngine::~MatmulEngine() = default;

void MatmulEngine::Matmul(const CpuContext& cpu, const Tensor& a, Transpose transpose_a, const Tensor& b,
                          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (out.elements() == 0) return;
  if (a.elements() == 0) return BiasOnly(cpu, out, accumulate, bias);
  if (a.dtype() == DType::kBFloat16 && cpu.bf16 != nullptr) {
    ByOneDnn(cpu, a, transpose_a, b, transpose_b, out, accumulate, bias);
  } else if (out.dim(0) <= kFewRows && transpose_a == Transpose::kNo && transpose_b == Transpose::kYes) {
    MultiplyFewRows(cpu, a, b, out, accumulate, bias);
  } else {
    Gemm(cpu, *cpu.gemm, a, transpose_a, b, transpose_b, out, accumulate, bias);
  }
}

void MatmulEngine::ByOneDnn(const CpuContext& cpu, const Tensor& a, Transpose transpose_a, const Tensor& b,
                            Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (compiled_ == nullptr) compiled_ = std::make_unique<Compiled>();
  const dnnl::engine& engine = compiled_->engine;
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t m = out.dim(0), n = out.dim(1), k = a.dim(ta ? 0 : 1);
  const Pieces piece = Cut(m, n, ta);
  const int64_t down = Blocks(m, piece.rows), across = Blocks(n, piece.columns);
  // Inner pieces, and those of the last row and column, which may be smaller.
  const auto compile = [&](int64_t rows, int64_t columns) {
    const OneThread one_thread;
    const Call call = {
        rows,           columns,   k,          a.dim(1), b.dim(1), n, ta, tb, accumulate == Accumulate::kYes,
        bias.defined(), a.dtype(), out.dtype()};
    auto found = compiled_->products.find(call);
    if (found == compiled_->products.end()) {
      found = compiled_->products.emplace(call, Compile(call, engine, cpu.dry)).first;
    }
    return &found->second;
  };
  constexpr size_t kMost = 1024;  // far above what a step uses; generation may pass through many lengths
  if (compiled_->products.size() >= kMost) compiled_->products.clear();
  const int64_t last_rows = m - (down - 1) * piece.rows, last_columns = n - (across - 1) * piece.columns;
  const Product* products[2][2] = {{compile(piece.rows, piece.columns), compile(piece.rows, last_columns)},
                                   {compile(last_rows, piece.columns), compile(last_rows, last_columns)}};
  size_t scratchpad = 0;
  for (const auto& row : products) {
    for (const Product* product : row) scratchpad = std::max(scratchpad, product->scratchpad.get_size());
  }
  const int64_t floats = PadColumns(Blocks(static_cast<int64_t>(scratchpad), sizeof(float)));
  const Workspace scratch(cpu, floats * std::min<int64_t>(cpu.threads, down * across));
  if (cpu.dry) return;
  ParallelFor(cpu.threads, down * across, [&](int64_t task) {
    const OneThread one_thread;
    const int64_t row = task / across, column = task % across;
    const Product& product = *products[row == down - 1][column == across - 1];
    const int64_t i = row * piece.rows, j = column * piece.columns;
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, memory(product.a, engine, At(a, ta ? i : i * k))},
        {DNNL_ARG_WEIGHTS, memory(product.b, engine, At(b, tb ? j * k : j))},
        {DNNL_ARG_DST, memory(product.out, engine, At(out, i * n + j))},
        {DNNL_ARG_SCRATCHPAD, memory(product.scratchpad, engine, scratch.data() + omp_get_thread_num() * floats)}};
    if (bias.defined()) arguments.emplace(DNNL_ARG_BIAS, memory(product.bias, engine, At(bias, j)));
    dnnl::stream stream(engine);
    product.primitive.execute(stream, arguments);
    stream.wait();
  });
}

}  // namespace trefoil::cpu
