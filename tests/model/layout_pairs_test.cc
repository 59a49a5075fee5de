// A covering set of layouts, twenty steps of each against the single rank: of every two features that a legal run of at
// most eight ranks may have together, some run here has both.
//
// A feature is a value of one of the choices below. All combinations that the rules allow are listed; of these the one
// with the most pairs that none before it has comes next, until no pair is left.
#include <google/protobuf/text_format.h>

#include <array>
#include <map>
#include <memory>
#include <utility>

#include "parallel/pipeline/schedule.h"
#include "tests/model/layout_testing.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

constexpr int kSteps = 20;
// Nine layers: uneven over 2 and 4 stages, and over 2 x 2 and 4 x 2 chunks.
constexpr char kModel[] =
    "model { layers: 9 hidden: 16 heads: 8 kv_heads: 4 head_dim: 4 feed_forward: 24 vocabulary: 61 } "
    "model { sequence_length: 16 } training { micro_batch: 1 global_batch: 16 optimizer { clip_norm: 0 } } ";

using Choice = std::vector<std::string>;  // the config that each value adds
// What is chosen, the layout's choices first.
enum : size_t { kTensor, kContext, kPipeline, kData, kMethod, kSequence, kZero, kReplicas, kSchedule, kRecompute,
                kMicroBatch, kLayoutChoices, kTied = kLayoutChoices, kDropout, kDocuments, kChoices };
constexpr size_t kMostValues = 10;
using Combination = std::array<uint8_t, kChoices>;  // the value of each choice

Choice Choices(const std::string& before, const std::vector<std::string>& values, const std::string& after) {
  Choice choice;
  for (const std::string& value : values) choice.push_back(before + value + after);
  return choice;
}

std::array<Choice, kChoices> AllChoices(ModelConfig::Family family) {
  std::vector<std::string> schedules;
  for (const ScheduleEntry& entry : Schedules()) schedules.push_back(ParallelConfig::Schedule_Name(entry.schedule));
  CHECK_LE(schedules.size(), kMostValues);
  std::vector<std::string> dropouts = {"0"};
  if (family == ModelConfig::GPT) dropouts.push_back("0.2");
  return {Choices("parallel { tensor: ", {"1", "2", "4"}, " } "),
          Choices("parallel { context: ", {"1", "2", "4"}, " } "),
          Choices("parallel { pipeline: ", {"1", "2", "4"}, " } "),
          Choices("parallel { data: ", {"1", "2", "4"}, " } "),
          Choices("parallel { context_method: ", {"RING", "ALL_TO_ALL"}, " } "),
          Choices("parallel { sequence_parallel: ", {"false", "true"}, " } "),
          Choices("parallel { zero: ", {"NONE", "OPTIMIZER", "GRADIENTS", "WEIGHTS"}, " } "),
          // Two copies of all, and of shares.
          Choices("parallel { replicas: ", {"1", "2", "2"}, " } "),
          Choices("parallel { schedule: ", schedules, " } "),
          Choices("parallel { recompute: ", {"NOTHING", "SELECTIVE", "FULL"}, " } "),
          Choices("training { micro_batch: ", {"1", "2"}, " } "),
          Choices("model { tied: ", {"false", "true"}, " } "),
          Choices("model { dropout: ", dropouts, " } "),
          Choices("data { mask_documents: ", {"false", "true"}, " } ")};
}

class Pairs {
 public:
  explicit Pairs(const std::vector<Combination>& runs) {
    for (const Combination& run : runs) ForEach(run, [this](bool& open) { left_ += !std::exchange(open, true); });
    all_ = left_;
  }
  int all() const { return all_; }
  int left() const { return left_; }
  int Gain(const Combination& run) {
    int gain = 0;
    ForEach(run, [&](const bool& open) { gain += open; });
    return gain;
  }
  void Cover(const Combination& run) {
    ForEach(run, [this](bool& open) { left_ -= std::exchange(open, false); });
  }

 private:
  template <typename Body>
  void ForEach(const Combination& run, const Body& body) {
    for (size_t a = 0; a < kChoices; ++a) {
      for (size_t b = 0; b < a; ++b) body(open_[a][run[a]][b][run[b]]);
    }
  }
  bool open_[kChoices][kMostValues][kChoices][kMostValues] = {};
  int left_ = 0, all_ = 0;
};

class LayoutPairsTest : public testing::TestWithParam<ModelConfig::Family> {
 protected:
  std::string Text(const Combination& run, size_t from, size_t to) const {
    std::string text;
    for (size_t i = from; i < to; ++i) text += choices_[i][run[i]];
    return text;
  }

  bool Legal(const Combination& run) const {
    const int log2_ranks = run[kTensor] + run[kContext] + run[kPipeline] + run[kData];
    const auto without = [&](size_t choice, size_t axis) { return run[choice] > 0 && run[axis] == 0; };
    const bool idle = without(kMethod, kContext) || without(kSequence, kTensor) || without(kReplicas, kData);
    const bool shares = run[kData] + run[kContext] > 1;
    if (log2_ranks > 3 || idle || (run[kReplicas] > 0 && shares != (run[kReplicas] == 2))) return false;
    RunConfig config = one_;
    config.mutable_parallel()->clear_chunks();
    CHECK(google::protobuf::TextFormat::MergeFromString(Text(run, 0, kLayoutChoices), &config));
    const int ranks = RanksOf(config);
    FillDefaults(&config, ranks, {});
    return Violations(config, ranks).empty();
  }

  // All that is legal; what the model is does not change which layouts are.
  std::vector<Combination> LegalRuns() const {
    std::vector<Combination> runs;
    Combination run = {};
    const auto next = [&](size_t from, size_t to) {
      for (size_t i = from; i < to; ++i) {
        if (++run[i] < choices_[i].size()) return true;
        run[i] = 0;
      }
      return false;
    };
    do {
      if (!Legal(run)) continue;
      do runs.push_back(run);
      while (next(kLayoutChoices, kChoices));
    } while (next(0, kLayoutChoices));
    return runs;
  }

  // Learnable tokens, in documents where they are masked.
  static BatchSource Source(const ModelConfig& model, bool documents) {
    const BatchSource tokens = LearnableTokens(model);
    if (!documents) return tokens;
    return [tokens, length = model.sequence_length()](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
      absl::StatusOr<Batch> batch = tokens(first, count);
      std::vector<int32_t> starts;
      for (int64_t i = 0; i < count * length; ++i) {
        const int64_t document = 3 + (first + i / length) % 7, at = i % length;
        starts.push_back(static_cast<int32_t>(at - at % document));
      }
      batch->document_starts = HostTensor(std::move(starts), {count, length});
      return batch;
    };
  }

  Trace TrainOne(const std::string& text) const {
    const RunConfig config = TinyRun(GetParam(), kModel + text);
    return Train(config, kSteps, Source(config.model(), config.data().mask_documents()));
  }

  const RunConfig one_ = TinyRun(GetParam(), kModel);
  const std::array<Choice, kChoices> choices_ = AllChoices(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Recipes, LayoutPairsTest, testing::Values(ModelConfig::GPT, ModelConfig::LLAMA),
                         [](const auto& info) { return ModelConfig::Family_Name(info.param); });

TEST_P(LayoutPairsTest, EveryTwoFeaturesTogether) {
  const std::vector<Combination> runs = LegalRuns();
  const auto pairs = std::make_unique<Pairs>(runs);
  std::map<std::string, Trace> references;  // by the model
  Deviation worst;
  std::string worst_run;
  int trained = 0;
  for (; pairs->left() > 0; ++trained) {
    const Combination* best = nullptr;
    int most = 0;
    for (const Combination& run : runs) {
      if (const int gain = pairs->Gain(run); gain > most) best = &run, most = gain;
    }
    pairs->Cover(*best);
    const std::string model = Text(*best, kLayoutChoices, kChoices), layout = Text(*best, 0, kLayoutChoices);
    SCOPED_TRACE(layout + model);
    if (!references.contains(model)) references[model] = TrainOne(model);
    const Trace trace = TrainOne(layout + model);
    ExpectSameRun(trace, references.at(model), {.loss = 1e-5, .norm = 1e-4});
    const Deviation deviation = Compare(trace, references.at(model));
    if (deviation.loss > worst.loss) worst_run = layout + model;
    worst.Raise(deviation);
  }
  std::printf("%zu legal runs, %d pairs of features in %d of them, %d steps; worst relative deviation: loss %.2e (%s), "
              "norm %.2e\n",
              runs.size(), pairs->all(), trained, kSteps, worst.loss, worst_run.c_str(), worst.norm);
}

}  // namespace
}  // namespace trefoil
