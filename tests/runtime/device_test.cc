#include "runtime/device.h"

#include <map>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

Tensor New(Device& device, DType dtype, const Shape& shape) {
  const Tensor x = device.Allocate(dtype, shape, Purpose::kActivations);
  if (dtype != DType::kInt32) {
    Fill(device, x, 0.5f);
  } else {
    const std::vector<int32_t> ones(x.elements(), 1);
    device.Upload(ones.data(), x);
  }
  return x;
}

// Calls every op once.
void CallAll(Device& device, DType dtype) {
  const DType f = DType::kFloat32;
  const int64_t n = 6, c = 12, vocabulary = 9;
  const AttentionShape attention = {2, 3, 3, 1, 4};
  const Tensor x = New(device, dtype, {n, c}), y = New(device, dtype, {n, c}), dx = New(device, dtype, {n, c});
  const Tensor weight = New(device, dtype, {c}), bias = New(device, dtype, {c});
  const Tensor mean = New(device, f, {n}), rstd = New(device, f, {n}), dw = New(device, f, {c}),
               db = New(device, f, {c});
  const Tensor matrix = New(device, dtype, {vocabulary, c}), logits = New(device, f, {n, vocabulary});
  const Tensor targets = New(device, DType::kInt32, {n}), statistics = New(device, f, {1, n, 3});
  const Tensor d_matrix = New(device, f, {vocabulary, c}), qkv = New(device, dtype, {n, attention.columns()});
  const Tensor d_qkv = New(device, dtype, qkv.shape()), sums = New(device, f, {2, 3, 3});
  const Tensor half = New(device, dtype, {n, c / 2}), flat = New(device, f, {n * c}), m = New(device, f, {n * c});
  const Tensor v = New(device, f, {n * c}), gradient = New(device, f, {n * c});
  Matmul(device, x, Transpose::kNo, matrix, Transpose::kYes, logits);
  Matmul(device, New(device, dtype, {n, vocabulary}), Transpose::kYes, x, Transpose::kNo, d_matrix, Accumulate::kYes);
  BiasBackward(device, x, db);
  AddBias(device, x, bias);
  LayerNorm(device, x, weight, bias, 1e-5f, y, mean, rstd);
  LayerNormBackward(device, y, x, weight, mean, rstd, y, dx, dw, db);
  RmsNorm(device, x, weight, 1e-5f, y, rstd);
  RmsNormBackward(device, y, x, weight, rstd, {}, dx, dw);
  for (const Activation activation : {Activation::kGelu, Activation::kGeluErf, Activation::kRelu, Activation::kSilu,
                                      Activation::kTanh}) {
    Activate(device, activation, x, y);
    ActivateBackward(device, activation, y, x, dx);
    GatedActivate(device, activation, x, half);
    GatedActivateBackward(device, activation, half, x, dx);
  }
  Dropout(device, x, {.probability = 0.1f, .key = 1, .first_row = 0, .global_columns = c}, y);
  Dropout(device, x, {.probability = 0.1f, .key = 1, .rows_together = 2}, y);
  Rotary(device, {qkv, 0}, 4, 4, 3, {.theta = 10000}, false);
  Attention(device, FusedHeads(qkv, attention), attention, {}, x, sums);
  AttentionBackward(device, y, FusedHeads(qkv, attention), x, sums, attention, {}, FusedHeads(d_qkv, attention));
  MergeAttention(device, x, sums, y, New(device, f, sums.shape()));
  Embedding(device, targets, matrix, 0, y);
  EmbeddingBackward(device, targets, y, 0, d_matrix);
  MeanPool(device, x, 3, {}, 1, New(device, dtype, {n / 3, c}));
  MeanPoolBackward(device, New(device, dtype, {n / 3, c}), 3, {}, 1, dx);
  const Tensor hidden = New(device, f, {n, c}), gates = New(device, f, {n, 4 * c}), cells = New(device, f, {n, c});
  RecurrentCell(device, Cell::kTanh, hidden, {}, y, {});
  RecurrentCellBackward(device, Cell::kTanh, cells, {}, hidden, {}, {}, hidden, {});
  RecurrentCell(device, Cell::kLstm, gates, cells, y, hidden);
  RecurrentCellBackward(device, Cell::kLstm, hidden, {}, gates, cells, hidden, gates, cells);
  CrossEntropyStatistics(device, logits, targets, 0, statistics.View({n, 3}));
  CrossEntropyCombine(device, statistics, {}, mean, rstd);
  CrossEntropyBackward(device, logits, targets, mean, rstd, 0, 1, logits);
  SquaredError(device, x, flat.View({n, c}), mean, rstd);
  SquaredErrorBackward(device, x, flat.View({n, c}), mean, 1, dx);
  Add(device, x, y, x);
  Scale(device, x, 0.5f, y);
  SumParts(device, x, weight.View({c}));
  Cast(device, x, y);
  CopyColumns(device, {x, 1}, 2, {qkv, 3});
  Fill(device, x, 1);
  SumOfSquares(device, x);
  Sum(device, x);
  FillNormal(device, flat, {n * c}, {0}, 1, 1);
  const Tensor both[] = {x, flat};
  Sums(device, both, both);
  const AdamWPart part = {.weight = flat, .gradient = gradient, .m = m, .v = v, .working = New(device, dtype, {n * c})};
  AdamW(device, {&part, 1}, {.learning_rate = 1e-3f});
}

std::vector<OpCount> Count(Device& device, DType dtype) {
  std::vector<OpCount> counts;
  device.Observe([&](const OpCount& count, std::chrono::steady_clock::time_point) { counts.push_back(count); });
  CallAll(device, dtype);
  device.Observe(nullptr);
  return counts;
}

TEST_P(DTypes, NullDeviceTakesEveryCallAndCountsTheSame) {
  const std::unique_ptr<Device> computing = NewTestDevice(), null = NewNullDevice();
  EXPECT_TRUE(computing->computes());
  EXPECT_FALSE(null->computes());
  const std::vector<OpCount> real = Count(*computing, GetParam()), counted = Count(*null, GetParam());
  ASSERT_EQ(real.size(), counted.size());
  std::map<std::string, OpCount> by_name;
  for (size_t i = 0; i < real.size(); ++i) {
    EXPECT_STREQ(real[i].op, counted[i].op);
    EXPECT_EQ(real[i].flops, counted[i].flops) << real[i].op;
    EXPECT_EQ(real[i].bytes, counted[i].bytes) << real[i].op;
    EXPECT_GT(real[i].bytes, 0) << real[i].op;
    EXPECT_GT(real[i].seconds, 0) << real[i].op;
    EXPECT_EQ(counted[i].seconds, 0) << real[i].op;
    by_name[real[i].op] = real[i];
  }
  EXPECT_GE(by_name.size(), 55u);
  const double size = static_cast<double>(SizeOf(GetParam()));
  EXPECT_EQ(by_name["matmul"].flops, 2.0 * 9 * 12 * 6);
  EXPECT_EQ(by_name["matmul"].bytes, size * (6 * 9 + 6 * 12) + 2 * 4 * 9 * 12);  // the last one: accumulates
  EXPECT_EQ(by_name["attention"].flops, 2 * 2 * 2 * 3 * 3 * 3 * 4 / 2.0);        // B H T^2 D, causal
  EXPECT_EQ(by_name["attention_backward"].flops, 2.5 * by_name["attention"].flops);
  EXPECT_EQ(by_name["add"].bytes, 3 * 6 * 12 * size);
}

TEST(Device, NullTensorsHaveSizesButNoElements) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const Tensor x = device->Allocate(DType::kBFloat16, {1 << 20, 1 << 20}, Purpose::kWeights);
  EXPECT_TRUE(x.defined());
  EXPECT_EQ(x.raw(), nullptr);
  EXPECT_EQ(x.Rows(5, 9).raw(), nullptr);
  EXPECT_EQ(device->memory().current_total, int64_t{2} << 40);
  EXPECT_EQ(SumOfSquares(*device, x), 0);
}

TEST(Device, ANullDeviceThatStandsForTheCpuTakesTheSameMemory) {
  const std::pair<DType, Bf16Products> kinds[] = {{DType::kFloat32, Bf16Products::kNative},
                                                  {DType::kBFloat16, Bf16Products::kNative},
                                                  {DType::kBFloat16, Bf16Products::kFloat32}};
  for (const auto& [dtype, products] : kinds) {
    for (const int threads : {1, 2, 5}) {
      const std::unique_ptr<Device> cpu = NewCpuDevice(threads, products);
      const std::unique_ptr<Device> null = NewNullDevice(
          {.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = threads, .bf16_products = products});
      std::vector<std::pair<Purpose, int64_t>> taken, planned;
      cpu->arena().Observe([&](Purpose purpose, int64_t bytes, bool) { taken.emplace_back(purpose, bytes); });
      null->arena().Observe([&](Purpose purpose, int64_t bytes, bool) { planned.emplace_back(purpose, bytes); });
      CallAll(*cpu, dtype);
      CallAll(*null, dtype);
      EXPECT_EQ(taken, planned) << threads;
      EXPECT_EQ(cpu->memory().reserved, null->memory().reserved);
      EXPECT_GT(cpu->memory().peak[static_cast<size_t>(Purpose::kWorkspace)], 0);
    }
  }
}

TEST(Device, ANullDeviceThatStandsForAGpuTakesTheWorkspaceOfProducts) {
  const std::unique_ptr<Device> null = NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCuda});
  CallAll(*null, DType::kBFloat16);
  EXPECT_EQ(null->memory().peak[static_cast<size_t>(Purpose::kWorkspace)], 32 << 20);
}

TEST(Device, SteadyStepsTakeNoNewMemory) {
  const std::unique_ptr<Device> device = NewTestDevice();
  CallAll(*device, DType::kBFloat16);
  const int64_t acquired = device->arena().acquisitions();
  CallAll(*device, DType::kBFloat16);
  EXPECT_EQ(device->arena().acquisitions(), acquired);
  EXPECT_EQ(device->memory().current_total, 0);
}

TEST(Device, TensorsAreAligned) {
  const std::unique_ptr<Device> device = NewCpuDevice(2);
  EXPECT_EQ(device->threads(), 2);
  for (const int64_t n : {1, 3, 100}) {
    const Tensor x = device->Allocate(DType::kFloat32, {n}, Purpose::kWeights);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.raw()) % 64, 0u);
  }
}

TEST(DeviceDeathTest, OpsNameWhatIsWrong) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const Tensor x = New(*device, DType::kFloat32, {4, 6}), w = New(*device, DType::kFloat32, {6});
  const Tensor short_weight = New(*device, DType::kFloat32, {5}), half = New(*device, DType::kBFloat16, {4, 6});
  const Tensor rstd = New(*device, DType::kFloat32, {4});
  EXPECT_DEATH(RmsNorm(*device, x, short_weight, 1e-5f, x, rstd), "weight is .5., must be .6.");
  EXPECT_DEATH(RmsNorm(*device, x, w, 1e-5f, half, rstd), "y is bfloat16, must be float32");
  EXPECT_DEATH(Activate(*device, Activation::kGelu, {}, x), "x is undefined");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
