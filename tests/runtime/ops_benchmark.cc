// Times the ops at the shapes of GPT-2 124M and prints each one's share of what the machine can do:
//
//   bazel run //tests/runtime:ops_benchmark -- 2        (threads; 1 if left out)
//
// The best of several runs counts: other work on the machine only makes a run slower.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "runtime/device.h"
#include "runtime/host/cpu_features.h"
#include "runtime/host/peak.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

class Benchmark {
 public:
  Benchmark(int threads, DType dtype)
      : device_(NewCpuDevice(threads)),
        dtype_(dtype),
        peak_(MeasurePeakFlops(dtype, threads)),
        bandwidth_(MeasureMemoryBandwidth(threads)) {
    std::printf("%d threads, %s: peak %.0f GFLOP/s, memory %.1f GB/s\n", threads, Name(dtype), peak_ / 1e9,
                bandwidth_ / 1e9);
    std::printf("%-44s %9s %9s %6s %9s %6s\n", "op", "ms", "GFLOP/s", "share", "GB/s", "share");
  }

  Tensor New(DType dtype, const Shape& shape) {
    const Tensor x = device_->Allocate(dtype, shape, Purpose::kActivations);
    if (dtype == DType::kInt32) {
      std::vector<int32_t> ids(x.elements());
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % 50257);
      device_->Upload(ids.data(), x);
      return x;
    }
    const Tensor wide = device_->Allocate(DType::kFloat32, {x.elements()}, Purpose::kActivations);
    FillNormal(*device_, wide, {x.elements()}, {0}, 1, 0.5f);
    Cast(*device_, wide, x.View({x.elements()}));
    return x;
  }
  Tensor New(const Shape& shape) { return New(dtype_, shape); }

  void Time(const char* name, const std::function<void(Device&)>& op) {
    OpCount best;
    best.seconds = 1e30;
    double total = 0;
    device_->Observe([&](const OpCount& count, std::chrono::steady_clock::time_point) {
      total += count.seconds;
      if (count.seconds < best.seconds) best = count;
    });
    for (int i = 0; i < 5 || (total < 0.4 && i < 300); ++i) op(*device_);
    device_->Observe(nullptr);
    std::printf("%-44s %9.3f %9.1f %5.0f%% %9.1f %5.0f%%\n", name, best.seconds * 1e3, best.flops / best.seconds / 1e9,
                100 * best.flops / best.seconds / peak_, best.bytes / best.seconds / 1e9,
                100 * best.bytes / best.seconds / bandwidth_);
  }

  // y = x W^T, dx = dy W, dW += dy^T x.
  void Linear(const char* name, int64_t rows, int64_t in, int64_t out) {
    const Tensor x = New({rows, in}), w = New({out, in}), y = New({rows, out}), dx = New({rows, in});
    const Tensor dw = New(DType::kFloat32, {out, in});
    const std::string label =
        name + std::string(" ") + std::to_string(rows) + " x " + std::to_string(in) + " -> " + std::to_string(out);
    Time((label + " y").c_str(), [&](Device& d) { Matmul(d, x, Transpose::kNo, w, Transpose::kYes, y); });
    Time((label + " dx").c_str(), [&](Device& d) { Matmul(d, y, Transpose::kNo, w, Transpose::kNo, dx); });
    Time((label + " dW").c_str(),
         [&](Device& d) { Matmul(d, y, Transpose::kYes, x, Transpose::kNo, dw, Accumulate::kYes); });
  }

  void Attend(int64_t batch, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t dim) {
    const AttentionShape s = {batch, tokens, heads, kv_heads, dim};
    const Tensor qkv = New({batch * tokens, s.columns()}), out = New({batch * tokens, heads * dim});
    const Tensor sums = New(DType::kFloat32, {batch, heads, tokens}), d_out = New(out.shape()),
                 d_qkv = New(qkv.shape());
    const std::string label = "B " + std::to_string(batch) + " T " + std::to_string(tokens) + " H " +
                              std::to_string(heads) + " K " + std::to_string(kv_heads) + " D " + std::to_string(dim);
    const AttentionHeads in = FusedHeads(qkv, s), gradients = FusedHeads(d_qkv, s);
    Time(("attention " + label).c_str(), [&](Device& d) { Attention(d, in, s, {}, out, sums); });
    Time(("attention backward " + label).c_str(),
         [&](Device& d) { AttentionBackward(d, d_out, in, out, sums, s, {}, gradients); });
    Time(("rotary " + label).c_str(), [&](Device& d) { Rotary(d, in.q, heads + kv_heads, dim, tokens, {.theta = 10000}, false); });
  }

  void Rest(int64_t n, int64_t c) {
    const DType f = DType::kFloat32;
    const Tensor x = New({n, c}), y = New({n, c}), dx = New({n, c}), w = New({c}), b = New({c}), dw = New(f, {c}),
                 db = New(f, {c});
    const Tensor mean = New(f, {n}), rstd = New(f, {n}), wide = New({n, 4 * c}), wide2 = New({n, 4 * c}),
                 half = New({n, 2 * c});
    Time("layer norm 768", [&](Device& d) { LayerNorm(d, x, w, b, 1e-5f, y, mean, rstd); });
    Time("layer norm backward 768", [&](Device& d) { LayerNormBackward(d, y, x, w, mean, rstd, dx, dx, dw, db); });
    Time("rms norm 768", [&](Device& d) { RmsNorm(d, x, w, 1e-5f, y, rstd); });
    Time("rms norm backward 768", [&](Device& d) { RmsNormBackward(d, y, x, w, rstd, dx, dx, dw); });
    using enum Activation;
    for (const auto& [name, activation] : {std::pair<std::string, Activation>{"gelu", kGelu}, {"gelu by erf", kGeluErf},
                                           {"relu", kRelu}, {"silu", kSilu}, {"tanh", kTanh}}) {
      Time((name + " 3072").c_str(), [&, f = activation](Device& d) { Activate(d, f, wide, wide2); });
      Time((name + " backward 3072").c_str(),
           [&, f = activation](Device& d) { ActivateBackward(d, f, wide2, wide, wide2); });
    }
    Time("swiglu 1536", [&](Device& d) { GatedActivate(d, kSilu, wide, half); });
    Time("swiglu backward 1536", [&](Device& d) { GatedActivateBackward(d, kSilu, half, wide, wide2); });
    Time("bias backward 3072", [&](Device& d) { BiasBackward(d, wide, New(f, {4 * c})); });
    Time("add 768", [&](Device& d) { Add(d, x, y, dx); });
    Time("dropout 768",
         [&](Device& d) { Dropout(d, x, {.probability = 0.1f, .key = 1, .first_row = 0, .global_columns = c}, y); });
    const Tensor logits = New(f, {n / 8, 50257}), ids = New(DType::kInt32, {n / 8}), table = New({50257, c});
    const Tensor statistics = New(f, {1, n / 8, 3}), d_logits = New({n / 8, 50257}), loss = New(f, {n / 8}),
                 sums = New(f, {n / 8});
    Time("cross-entropy statistics 50257", [&](Device& d) {
      CrossEntropyStatistics(d, logits, ids, 0, statistics.View({n / 8, 3}));
    });
    CrossEntropyCombine(*device_, statistics, {}, loss, sums);
    Time("cross-entropy backward 50257",
         [&](Device& d) { CrossEntropyBackward(d, logits, ids, {}, sums, 0, 1, d_logits); });
    const Tensor all_ids = New(DType::kInt32, {n}), d_table = New(f, {50257, c});
    Time("embedding 768", [&](Device& d) { Embedding(d, all_ids, table, 0, y); });
    Time("embedding backward 768", [&](Device& d) { EmbeddingBackward(d, all_ids, y, 0, d_table); });
    const int64_t parameters = int64_t{20} << 20;
    const Tensor weight = New(f, {parameters}), g = New(f, {parameters}), m = New(f, {parameters}),
                 v = New(f, {parameters});
    const Tensor working = New({parameters}), parts = New({4, parameters / 4}), total = New({parameters / 4});
    Fill(*device_, v, 1);
    Time("adamw 20M", [&](Device& d) {
      const AdamWPart part = {.weight = weight, .gradient = g, .m = m, .v = v, .working = working, .weight_decay = 0};
      AdamW(d, {&part, 1}, {.learning_rate = 1e-4f, .beta1 = .9f, .beta2 = .95f, .epsilon = 1e-8f});
    });
    Time("sum of squares 20M", [&](Device& d) { SumOfSquares(d, g); });
    Time("sum parts 4 x 5M", [&](Device& d) { SumParts(d, parts, total); });
    Time("cast 20M", [&](Device& d) { Cast(d, g, working); });
    Time("fill normal 5M", [&](Device& d) { FillNormal(d, g.Range(0, {parameters / 4}), {parameters}, {0}, 1, 1); });
  }

 private:
  const std::unique_ptr<Device> device_;
  const DType dtype_;
  const double peak_, bandwidth_;
};

void Main(int threads) {
  std::vector<DType> dtypes = {DType::kFloat32};
  if (CpuHasBFloat16()) dtypes.push_back(DType::kBFloat16);
  for (const DType dtype : dtypes) {
    Benchmark benchmark(threads, dtype);
    for (const int64_t rows : {256, 4096}) {
      benchmark.Linear("qkv", rows, 768, 2304);
      benchmark.Linear("projection", rows, 768, 768);
      benchmark.Linear("mlp up", rows, 768, 3072);
      benchmark.Linear("mlp down", rows, 3072, 768);
    }
    benchmark.Linear("logits", 256, 768, 50257);
    benchmark.Attend(4, 64, 12, 12, 64);
    benchmark.Attend(4, 1024, 12, 12, 64);
    benchmark.Attend(1, 1024, 16, 4, 128);
    benchmark.Rest(4096, 768);
  }
}

}  // namespace
}  // namespace trefoil

int main(int count, char** arguments) { trefoil::Main(count > 1 ? std::atoi(arguments[1]) : 1); }
