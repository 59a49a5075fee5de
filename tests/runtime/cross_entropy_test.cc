#include <limits>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Reference {
  Values loss, log_sum_exp, correct, d_logits;
};

// weights: empty for all 1. share: of the target's weight, to all other tokens.
Reference Naive(int64_t rows, int64_t columns, const Values& logits, const Values& targets, const Values& weights,
                double scale, double share) {
  Reference r;
  for (int64_t i = 0; i < rows; ++i) {
    const double* row = logits.data() + i * columns;
    double maximum = -kInfinity, sum = 0;
    for (int64_t j = 0; j < columns; ++j) maximum = std::max(maximum, row[j]);
    for (int64_t j = 0; j < columns; ++j) sum += std::exp(row[j] - maximum);
    r.log_sum_exp.push_back(maximum + std::log(sum));
    const double weight = weights.empty() ? 1 : weights[i];
    double loss = 0;
    for (int64_t j = 0; j < columns; ++j) {
      const double wanted = j == targets[i] ? 1 - share : share / static_cast<double>(columns - 1);
      loss += wanted * (r.log_sum_exp.back() - row[j]);
      r.d_logits.push_back(scale * weight * (std::exp(row[j] - r.log_sum_exp.back()) - wanted));
    }
    r.loss.push_back(weight * loss);
    r.correct.push_back(weight > 0 && row[static_cast<int64_t>(targets[i])] == maximum ? 1 : 0);
  }
  return r;
}

// The columns [begin, end) of every row.
Values Columns(const Values& x, int64_t columns, int64_t begin, int64_t end) {
  Values part;
  for (size_t row = 0; row < x.size() / columns; ++row) {
    part.insert(part.end(), x.begin() + row * columns + begin, x.begin() + row * columns + end);
  }
  return part;
}

// The vocabulary in one part, two even ones, uneven ones, and with an empty one.
const std::vector<std::vector<int64_t>> kSplits = {{0, 37}, {0, 18, 37}, {0, 1, 30, 37}, {0, 37, 37}, {0, 0, 37}};

void CompareOverSplitVocabulary(DType dtype, bool weighted, float share) {
  constexpr int64_t kColumns = 37;
  constexpr float kScale = 0.37f;
  const LabelSmoothing smoothing = {.share = share, .vocabulary = kColumns};
  const int64_t values = share > 0 ? 4 : 3;
  for (const int64_t rows : {0, 1, 23, 700}) {
    for (const auto& split : kSplits) {
      const auto parts = static_cast<int64_t>(split.size()) - 1;
      SCOPED_TRACE(testing::Message() << rows << " rows, " << parts << " parts from " << split[1]);
      Reference reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor whole = Random(device, DType::kFloat32, {rows, kColumns}, 1, 20);
        const Tensor targets = RandomIds(device, rows, 2, 0, kColumns);
        Values weight;
        for (int64_t i = 0; weighted && i < rows; ++i) weight.push_back(static_cast<double>(i % 4) / 2);
        const Tensor weights = weighted ? From(device, DType::kFloat32, {rows}, weight) : Tensor();
        reference = Naive(rows, kColumns, Get(device, whole), Get(device, targets), weight, kScale, share);
        const Tensor statistics = Poisoned(device, DType::kFloat32, {parts, rows, values});
        const Tensor loss = Poisoned(device, DType::kFloat32, {rows}), sums = Poisoned(device, DType::kFloat32, {rows});
        const Tensor correct = Poisoned(device, DType::kFloat32, {rows});
        std::vector<Tensor> logits;
        for (int64_t p = 0; p < parts; ++p) {
          logits.push_back(From(device, DType::kFloat32, {rows, split[p + 1] - split[p]},
                                Columns(Get(device, whole), kColumns, split[p], split[p + 1])));
          CrossEntropyStatistics(device, logits[p], targets, split[p], statistics.Rows(p, p + 1).View({rows, values}));
        }
        CrossEntropyCombine(device, statistics, weights, loss, sums, smoothing, correct);
        std::vector<Tensor> out = {loss, sums, correct};
        for (int64_t p = 0; p < parts; ++p) {
          const Tensor d =
              dtype == DType::kFloat32 && p % 2 == 0 ? logits[p] : Poisoned(device, dtype, logits[p].shape());
          CrossEntropyBackward(device, logits[p], targets, weights, sums, split[p], kScale, d, smoothing);
          out.push_back(d);
        }
        return out;
      });
      ExpectClose(results[0], reference.loss, 3e-6, "loss");
      ExpectClose(results[1], reference.log_sum_exp, 3e-6, "log_sum_exp");
      EXPECT_EQ(results[2], reference.correct);
      for (int64_t p = 0; p < parts; ++p) {
        ExpectClose(results[3 + p], Columns(reference.d_logits, kColumns, split[p], split[p + 1]),
                    dtype == DType::kFloat32 ? 2e-5 : Tolerance(dtype), "d_logits");
      }
    }
  }
}

TEST_P(DTypes, CrossEntropyOverSplitVocabulary) { CompareOverSplitVocabulary(GetParam(), /*weighted=*/false, 0); }
TEST_P(DTypes, WeightedCrossEntropyOverSplitVocabulary) { CompareOverSplitVocabulary(GetParam(), /*weighted=*/true, 0); }
TEST_P(DTypes, SmoothedCrossEntropyOverSplitVocabulary) { CompareOverSplitVocabulary(GetParam(), false, 0.1f); }
TEST_P(DTypes, SmoothedWeightedCrossEntropyOverSplitVocabulary) { CompareOverSplitVocabulary(GetParam(), true, 0.4f); }

// As fairseq's label_smoothed_cross_entropy: (1 - e - e') nll + e' sum_j(-log p_j), e' = e / (V - 1).
TEST(CrossEntropy, SmoothingIsThatOfTheTransformer) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor logits = From(*device, f, {1, 3}, {std::log(1.0), std::log(2.0), std::log(5.0)});
  const Tensor statistics = Poisoned(*device, f, {1, 1, 4}), loss = Poisoned(*device, f, {1});
  CrossEntropyStatistics(*device, logits, Ids(*device, {1}), 0, statistics.View({1, 4}));
  CrossEntropyCombine(*device, statistics, {}, loss, Poisoned(*device, f, {1}), {.share = 0.2f, .vocabulary = 3});
  const double nll = std::log(4.0), all = std::log(8.0) + std::log(4.0) + std::log(1.6);
  ExpectClose(Get(*device, loss), {0.7 * nll + 0.1 * all}, 1e-6, "loss");
}

TEST(CrossEntropy, AsLargeAsTheTargetIsCorrectAndNaNIsNot) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor logits = From(*device, f, {4, 2}, {3, 3, 1, 2, nan, 1, -2, -1}), targets = Ids(*device, {0, 0, 0, 1});
  const Tensor statistics = Poisoned(*device, f, {1, 4, 3}), correct = Poisoned(*device, f, {4});
  CrossEntropyStatistics(*device, logits, targets, 0, statistics.View({4, 3}));
  CrossEntropyCombine(*device, statistics, {}, Poisoned(*device, f, {4}), Poisoned(*device, f, {4}), {}, correct);
  EXPECT_EQ(Get(*device, correct), Values({1, 0, 0, 1}));
}

// Neither a target that is no token nor a row that is no number is looked at.
TEST(CrossEntropy, WeightZeroIgnoresWhatIsThere) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor logits = From(*device, f, {3, 2}, {1, 2, nan, 1, 0, 0}), targets = Ids(*device, {-100, 0, 1});
  const Tensor weights = From(*device, f, {3}, {0, 0, 2});
  const Tensor statistics = Poisoned(*device, f, {1, 3, 3}), loss = Poisoned(*device, f, {3});
  const Tensor sums = Poisoned(*device, f, {3}), d = Poisoned(*device, f, {3, 2});
  CrossEntropyStatistics(*device, logits, targets, 0, statistics.View({3, 3}));
  CrossEntropyCombine(*device, statistics, weights, loss, sums);
  CrossEntropyBackward(*device, logits, targets, weights, sums, 0, 1, d);
  ExpectClose(Get(*device, loss), {0, 0, 2 * std::log(2.0)}, 1e-6, "loss");
  ExpectClose(Get(*device, d), {0, 0, 0, 0, 1, -1}, 1e-6, "d_logits");
}

TEST(CrossEntropy, StatisticsOfNoColumnsAndOfNaN) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Tensor targets = Ids(*device, {0, 0});
  const Tensor statistics = Poisoned(*device, DType::kFloat32, {2, 3});
  CrossEntropyStatistics(*device, From(*device, DType::kFloat32, {2, 0}, {}), targets, 0, statistics);
  EXPECT_EQ(Get(*device, statistics), Values({-kInfinity, 0, 0, -kInfinity, 0, 0}));
  const Tensor summed = Poisoned(*device, DType::kFloat32, {2, 4});
  CrossEntropyStatistics(*device, From(*device, DType::kFloat32, {2, 0}, {}), targets, 0, summed);
  EXPECT_EQ(Get(*device, summed), Values({-kInfinity, 0, 0, 0, -kInfinity, 0, 0, 0}));
  // A NaN must reach the loss, wherever it is.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CrossEntropyStatistics(*device, From(*device, DType::kFloat32, {2, 3}, {1, nan, 2, nan, nan, nan}), targets, 0,
                         statistics);
  const Tensor loss = Poisoned(*device, DType::kFloat32, {2}), sums = From(*device, DType::kFloat32, {2}, {0, 0});
  CrossEntropyCombine(*device, statistics.View({1, 2, 3}), {}, loss, sums);
  EXPECT_TRUE(std::isnan(Get(*device, sums)[0]) && std::isnan(Get(*device, sums)[1]));
}

TEST(CrossEntropy, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor logits = Random(*device, f, {5, 11}, 1), targets = RandomIds(*device, 5, 2, 0, 11);
  const Tensor loss = Poisoned(*device, f, {5}), sums = Poisoned(*device, f, {5});
  for (const LabelSmoothing& smoothing : {LabelSmoothing(), LabelSmoothing{.share = 0.3f, .vocabulary = 11}}) {
    const int64_t values = smoothing.share > 0 ? 4 : 3;
    const Tensor statistics = Poisoned(*device, f, {1, 5, values});
    for (const Tensor& weights : {Tensor(), From(*device, f, {5}, {1, 0, 0.5, 3, 0.5})}) {
      const auto mean = [&] {
        CrossEntropyStatistics(*device, logits, targets, 0, statistics.View({5, values}));
        CrossEntropyCombine(*device, statistics, weights, loss, sums, smoothing);
        return Sum(*device, loss) / 5;
      };
      mean();
      const Tensor d = Poisoned(*device, f, {5, 11});
      CrossEntropyBackward(*device, logits, targets, weights, sums, 0, 0.2f, d, smoothing);
      ExpectGradient(*device, logits, mean, Get(*device, d), "d_logits");
    }
  }
}

TEST(CrossEntropyDeathTest, SmoothingNeedsSumsAndAVocabulary) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](Shape shape) { return device->Allocate(DType::kFloat32, shape, Purpose::kActivations); };
  EXPECT_DEATH(CrossEntropyCombine(*device, make({1, 2, 3}), {}, make({2}), make({2}), {.share = 0.1f, .vocabulary = 9}),
               "statistics is .1, 2, 3., must be .1, 2, 4.");
  EXPECT_DEATH(CrossEntropyCombine(*device, make({1, 2, 4}), {}, make({2}), make({2}), {.share = 1, .vocabulary = 9}),
               "share 1, must be in .0, 1.");
  EXPECT_DEATH(CrossEntropyCombine(*device, make({1, 2, 4}), {}, make({2}), make({2}), {.share = 0.1f}),
               "a vocabulary of 0");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
