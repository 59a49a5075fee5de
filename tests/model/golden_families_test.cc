// Networks of the families behind GPT and LLAMA, on one rank against the numbers that PyTorch made
// (tests/golden/make_golden_families.py): lstm_classes has model.pooling MEAN, the other classes FIRST.
#include <numeric>

#include "tests/model/golden_testing.h"

namespace trefoil {
namespace {

class GoldenFamiliesTest : public testing::TestWithParam<const char*> {
 protected:
  RunConfig Config(const std::string& more = "") const { return GoldenConfig(golden_, more); }

  BatchSource Samples(double factor = 1) const { return GoldenBatches(golden_, factor); }

  // Of the targets of the first global batch; all 1 where there are none.
  Values Weights() const {
    const size_t targets = golden_.Get("token_losses").values.size();
    if (!golden_.Has("weights")) return Values(targets, 1);
    const Values& all = golden_.Get("weights").values;
    return Values(all.begin(), all.begin() + static_cast<ptrdiff_t>(targets));
  }
  // With which their mean is 1.
  double Factor() const {
    const Values weights = Weights();
    return static_cast<double>(weights.size()) / std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  // The losses that the first step adds up, of "token_losses" or "dropout_losses".
  Values Weighted(const std::string& name) const {
    Values losses = golden_.Get(name).values;
    const Values weights = Weights();
    for (size_t i = 0; i < losses.size(); ++i) losses[i] *= weights[i] * Factor();
    return losses;
  }

  const Fixture golden_{std::string("tests/golden/") + GetParam() + ".safetensors"};
};

std::string NameOf(const testing::TestParamInfo<const char*>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(Networks, GoldenFamiliesTest,
                         testing::Values("bert", "modern_bert", "bert_classes", "transformer", "t5", "t5_tied", "vit", "mae",
                                         "rnn", "lstm", "lstm_classes"),
                         NameOf);

TEST_P(GoldenFamiliesTest, SameParametersAndInitialWeights) { ExpectSameInitialWeights(Config(), golden_); }

TEST_P(GoldenFamiliesTest, LossOfEveryTarget) {
  Values losses;
  FirstGradients(Config(), Samples(Factor()), &losses);
  ExpectClose(losses, Weighted("token_losses"), 1e-6, "loss");
}

TEST_P(GoldenFamiliesTest, GradientOfEveryParameter) {
  for (const int size : {1, 2, 4}) {
    SCOPED_TRACE(size);
    const RunConfig config = Config("training { micro_batch: " + std::to_string(size) + " }");
    const Gradients gradients = FirstGradients(config, Samples(Factor()));
    // Where keys are much alike softmax's gradient is a small difference: float32 in PyTorch is 6e-6 off.
    ExpectSameGradients(gradients, GoldenGradients(golden_), 2e-5);
    EXPECT_NEAR(Norm(gradients) / golden_.Get("norms").values[0], 1, 1e-6);
  }
}

TEST_P(GoldenFamiliesTest, TenStepsOfAdamW) {
  for (const char* more : {"training { micro_batch: 2 }", "training { micro_batch: 4 } parallel { zero: NONE }"}) {
    SCOPED_TRACE(more);
    ExpectSameTraining(Config(more), Samples(), golden_);
  }
}

TEST_P(GoldenFamiliesTest, Evaluation) {
  WithWorkers(Config(), [&](Worker& worker) {
    const auto evaluation = Evaluate(worker, Samples(), worker.config.training().global_batch());
    ASSERT_TRUE(evaluation.ok()) << evaluation.status();
    const Values& golden = golden_.Get("evaluation").values;
    EXPECT_NEAR(evaluation->loss / golden[0], 1, 1e-6);
    const std::string name = GetParam();
    ASSERT_EQ(evaluation->accuracy.has_value(), name.ends_with("bert") || name.ends_with("classes") || name == "vit");
    if (evaluation->accuracy.has_value()) {
      EXPECT_EQ(*evaluation->accuracy, golden[1]);
    }
    EXPECT_EQ(Norm(GradientsOf(worker)), 0);
  });
}

TEST_P(GoldenFamiliesTest, RecomputationChangesNothing) {
  ExpectRecomputationChangesNothing(Config(), Samples(Factor()));
}

class GoldenFamiliesDropoutTest : public GoldenFamiliesTest {};
INSTANTIATE_TEST_SUITE_P(Networks, GoldenFamiliesDropoutTest,
                         testing::Values("bert_classes", "transformer", "vit", "lstm"), NameOf);

// Every mask is in the right place, of the right elements.
TEST_P(GoldenFamiliesDropoutTest, LossesAndGradients) {
  const std::string dropout = "model { " + golden_.metadata("dropout") + " } ";
  for (const int size : {1, 4}) {
    SCOPED_TRACE(size);
    ExpectSameDropout(Config(dropout + "training { micro_batch: " + std::to_string(size) + " }"), Samples(Factor()),
                      golden_, Weighted("dropout_losses"), 2e-5);
  }
  ExpectRecomputationChangesNothing(Config(dropout), Samples(Factor()));
}

}  // namespace
}  // namespace trefoil
