// Weights of targets: the loss is sum(weight * loss) / sum(weight) of the global batch, whatever rank and micro-batch a
// target is on.
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

// Of some samples nearly nothing counts, of some everything: ranks and micro-batches have unequal sums.
double WeightOf(int64_t sample, int64_t t) {
  if (sample % 4 == 0) return t == 1 ? 1 : 0;
  if (sample % 4 == 1) return 0;
  return static_cast<double>((sample + t) % 3) / 2;
}

// Learnable tokens with these weights; where the weight is 0, `ignored` in the target's place unless that is 0.
BatchSource Weighted(const ModelConfig& config, const std::function<double(int64_t, int64_t)>& weight_of,
                     int32_t ignored = 0) {
  const auto get = [=, tokens = LearnableTokens(config)](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    absl::StatusOr<Batch> batch = tokens(first, count);
    batch->weights = HostTensor::Zeros(DType::kFloat32, {count, batch->length});
    for (int64_t i = 0; i < count * batch->length; ++i) {
      const double weight = weight_of(first + i / batch->length, i % batch->length);
      batch->weights.values<float>()[i] = static_cast<float>(weight);
      if (weight == 0 && ignored != 0) batch->targets.values<int32_t>()[i] = ignored;
    }
    return batch;
  };
  return BatchSource(get, /*weighted=*/true);
}

RunConfig Tiny(const std::string& more) { return TinyRun(ModelConfig::LLAMA, "training { micro_batch: 1 } " + more); }

TEST(Weights, EveryLayoutTrainsAsOneRank) {
  const BatchSource source = Weighted(Tiny("").model(), WeightOf);
  const Trace reference = Train(Tiny(""), 3, source);
  for (const char* layout :
       {"training { micro_batch: 4 }", "parallel { data: 2 }", "parallel { data: 4 }", "parallel { data: 8 }",
        "parallel { data: 2 } training { micro_batch: 4 }", "parallel { data: 2 pipeline: 2 }",
        "parallel { tensor: 2 data: 2 zero: OPTIMIZER }"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(Train(Tiny(layout), 3, source), reference);
  }
}

// The loss by hand: of each token's loss, which a run without weights gives.
TEST(Weights, ZeroLeavesATargetOut) {
  const RunConfig config = Tiny("");
  const int64_t samples = config.training().global_batch(), length = config.model().sequence_length();
  double sum = 0, weights = 0;
  WithWorkers(config, [&](Worker& worker) {
    AddGradients(worker, LearnableTokens(config.model()));
    for (int64_t sample = 0; sample < samples; ++sample) {
      const Values losses = Get(worker.device, worker.transformer.Losses()[static_cast<size_t>(sample)]);
      for (int64_t t = 0; t < length; ++t) {
        sum += WeightOf(sample, t) * losses[static_cast<size_t>(t)];
        weights += WeightOf(sample, t);
      }
    }
  });
  ASSERT_LT(weights, 0.6 * static_cast<double>(samples * length));
  const Trace trace = Train(config, 1, Weighted(config.model(), WeightOf));
  EXPECT_NEAR(trace.losses[0], sum / weights, 1e-6 * sum / weights);
  // What is left out may be anything.
  const Trace other = Train(config, 3, Weighted(config.model(), WeightOf, /*ignored=*/-100));
  const Trace same = Train(config, 3, Weighted(config.model(), WeightOf));
  EXPECT_EQ(other.losses, same.losses);
  EXPECT_EQ(other.norms, same.norms);
  EXPECT_EQ(other.held_out, same.held_out);
}

TEST(Weights, OnlyTheirProportionsCount) {
  const RunConfig config = Tiny("parallel { data: 2 }");
  const auto constant = [](double weight) { return [=](int64_t, int64_t) { return weight; }; };
  const Trace without = Train(config, 2), ones = Train(config, 2, Weighted(config.model(), constant(1)));
  const Trace halves = Train(config, 2, Weighted(config.model(), constant(0.5)));
  for (const Trace* trace : {&ones, &halves}) {
    EXPECT_EQ(trace->losses, without.losses);
    EXPECT_EQ(trace->norms, without.norms);
    EXPECT_EQ(trace->held_out, without.held_out);
  }
  // A batch in which nothing counts has no loss and no gradient.
  const Trace nothing = Train(config, 1, Weighted(config.model(), constant(0)));
  EXPECT_EQ(nothing.losses[0], 0);
  EXPECT_EQ(nothing.norms[0], 0);
  EXPECT_EQ(nothing.held_out, 0);
}

// The held-out loss divides by the weights of all its samples, not by those of each batch.
TEST(Weights, EvaluationCountsTheSame) {
  const Trace one = Train(Tiny("training { global_batch: 8 }"), 0, Weighted(Tiny("").model(), WeightOf));
  const Trace two = Train(Tiny("training { global_batch: 2 } parallel { data: 2 }"), 0,
                          Weighted(Tiny("").model(), [](int64_t sample, int64_t t) {
                            return sample < 4 ? WeightOf(sample, t) : 0.0;
                          }));
  const Trace four = Train(Tiny("training { global_batch: 8 }"), 0,
                           Weighted(Tiny("").model(), [](int64_t sample, int64_t t) {
                             return sample < 4 ? WeightOf(sample, t) : 0.0;
                           }));
  EXPECT_NEAR(two.held_out, four.held_out, 1e-6);
  EXPECT_GT(std::abs(one.held_out - four.held_out), 1e-4);
}

}  // namespace
}  // namespace trefoil
