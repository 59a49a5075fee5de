#include "runtime/device.h"
#include "runtime/kernels.h"

namespace trefoil {
namespace {

using T = const Tensor&;

class NullKernels : public Kernels {
 public:
  void Matmul(T, Transpose, T, Transpose, T, Accumulate, T) override {}
  void MatmulGelu(T, T, T, T, T) override {}
  void MatmulGeluBackward(T, T, T, T, T) override {}
  void WeightGradient(T, T, T, T) override {}
  void Quantize(T, T, T, T) override {}
  void MatmulFloat8(T, T, T, T, T, Accumulate, T) override {}
  void BiasBackward(T, T) override {}
  void AddBias(T, T) override {}
  void LayerNorm(T, T, T, float, T, T, T) override {}
  void LayerNormBackward(T, T, T, T, T, T, T, T, T) override {}
  void RmsNorm(T, T, float, T, T) override {}
  void RmsNormBackward(T, T, T, T, T, T, T) override {}
  void Gelu(T, T) override {}
  void GeluBackward(T, T, T) override {}
  void SwiGlu(T, T) override {}
  void SwiGluBackward(T, T, T) override {}
  void Dropout(T, const DropoutMask&, T) override {}
  void Rotary(T, const AttentionShape&, float, bool) override {}
  void Attention(T, const AttentionShape&, const AttentionDropout&, T, T) override {}
  void AttentionBackward(T, T, T, T, const AttentionShape&, const AttentionDropout&, T) override {}
  void Embedding(T, T, int64_t, T, Accumulate) override {}
  void EmbeddingBackward(T, T, int64_t, T) override {}
  void CrossEntropyStatistics(T, T, int64_t, T) override {}
  void CrossEntropyCombine(T, T, T) override {}
  void CrossEntropyBackward(T, T, T, int64_t, float, T) override {}
  void Add(T, T, T) override {}
  void SumParts(T, T) override {}
  void Cast(T, T) override {}
  void Fill(T, float) override {}
  TwoSums Sums(std::span<const Tensor>, std::span<const Tensor>) override { return {}; }
  void FillNormal(T, const Shape&, const Shape&, uint64_t, float) override {}
  void AdamW(std::span<const AdamWPart>, const AdamWStep&) override {}
};

class NullDevice : public Device {
 public:
  NullDevice()
      : Device(Arena::Create([](int64_t) { return nullptr; }, [](void*, int64_t) {}), std::make_unique<NullKernels>()) {
  }
  void Upload(const void*, const Tensor&) override {}
  void Download(const Tensor&, void*) override {}
  void Synchronize() override {}
  bool computes() const override { return false; }
  std::string name() const override { return "null"; }
  int threads() const override { return 1; }
};

}  // namespace

std::unique_ptr<Device> NewNullDevice() { return std::make_unique<NullDevice>(); }

}  // namespace trefoil
