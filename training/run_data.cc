#include "training/run_data.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <vector>

#include "data/prefetcher.h"
#include "data/tokens/loader.h"
#include "parallel/same_on_ranks.h"
#include "training/tasks/tasks.h"

namespace trefoil {
namespace {

// An id of a class means the same in both.
absl::Status CheckAlike(const TaskData& train, const TaskData& held_out) {
  if (train.classes == held_out.classes) return absl::OkStatus();
  size_t i = 0;
  while (i < std::min(train.classes.size(), held_out.classes.size()) && train.classes[i] == held_out.classes[i]) ++i;
  const auto name = [i](const TaskData& data) { return i < data.classes.size() ? data.classes[i] : std::string("none"); };
  return absl::InvalidArgumentError(absl::StrCat("data.held_out: its class ", i, " is ", name(held_out),
                                                 ", must be that of data.train, ", name(train),
                                                 "; make both with the same names, in the same order"));
}

absl::StatusOr<RunData> Open(const RunConfig& config) {
  RunData opened;
  TREFOIL_ASSIGN_OR_RETURN(opened.train, OpenTaskData(config, TaskData::Part::kTrain));
  if (config.data().held_out().empty()) return opened;
  TREFOIL_ASSIGN_OR_RETURN(opened.held_out, OpenTaskData(config, TaskData::Part::kHeldOut));
  TREFOIL_RETURN_IF_ERROR(CheckAlike(opened.train, opened.held_out));
  opened.evaluation_samples =
      std::min<int64_t>(opened.held_out.samples->samples(), config.training().evaluate_samples());
  return opened;
}

// Names without their folder, which may differ from host to host.
void AddFacts(const std::string& field, const TaskData& data, std::vector<RankFact>* facts) {
  if (data.samples == nullptr) return;
  facts->push_back({field, absl::StrCat(data.files.size(), " files of ", data.items_in_all(), " ", data.items)});
  for (const TaskData::File& file : data.files) {
    facts->push_back({field + ", file " + file.name,
                      absl::StrCat(file.items, " ", data.items, ", checksum ", file.checksum)});
  }
}

// How often each id is a target in this data rank's share of an evaluation.
absl::StatusOr<std::vector<int64_t>> CountShare(const RunData& data, const Worker& worker) {
  constexpr int64_t kAtOnce = 64;
  const int64_t ranks = worker.mesh.size(Axis::kData), rank = worker.mesh.index(Axis::kData);
  const int64_t first = data.evaluation_samples * rank / ranks, end = data.evaluation_samples * (rank + 1) / ranks;
  const ModelConfig& model = worker.config.model();
  std::vector<int64_t> counts(
      static_cast<size_t>(model.head() == ModelConfig::CLASSES ? model.classes() : model.vocabulary()));
  for (int64_t at = first; at < end; at += kAtOnce) {
    TREFOIL_ASSIGN_OR_RETURN(const Batch batch, data.held_out.samples->Get(at, std::min(kAtOnce, end - at)));
    const std::vector<int32_t>& targets = batch.targets.values<int32_t>();
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!batch.weights.defined() || batch.weights.values<float>()[i] > 0) ++counts.at(static_cast<size_t>(targets[i]));
    }
  }
  return counts;
}

bool HasIds(const ModelConfig& model) {
  return model.head() == ModelConfig::TOKENS || model.head() == ModelConfig::CLASSES;
}

}  // namespace

double RunData::Epochs(int64_t samples) const {
  if (train.samples == nullptr) return 0;
  return static_cast<double>(samples) / static_cast<double>(train.samples->samples());
}

absl::StatusOr<RunData> OpenRunData(const RunConfig& config, Group& all) {
  // Each step's lengths are known on every rank.
  const bool reads = ReadsData(config, all.rank()) || ShortensBatches(config);
  absl::StatusOr<RunData> data = reads ? Open(config) : RunData();
  TREFOIL_RETURN_IF_ERROR(all.Agree(data.status()));
  std::vector<RankFact> facts;
  AddFacts("data.train", data->train, &facts);
  AddFacts("data.held_out", data->held_out, &facts);
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, facts));
  auto samples = static_cast<double>(data->evaluation_samples);
  all.AllReduceMax(std::span(&samples, 1));
  data->evaluation_samples = static_cast<int64_t>(samples);
  return data;
}

absl::StatusOr<double> TargetEntropy(const RunData& data, Worker& worker) {
  if (!HasIds(worker.config.model())) return 0;
  // Rank 0 and the ranks that do the same for other shares of the batch.
  const bool counts = worker.role.reads_inputs && worker.tensor->rank() == 0;
  const auto share = counts ? CountShare(data, worker) : std::vector<int64_t>();
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(share.status()));
  if (!counts) return 0;
  std::vector<double> sums(share->begin(), share->end());  // exact: below 2^53
  worker.data->AllReduceSum(std::span(sums));
  return Entropy(std::vector<int64_t>(sums.begin(), sums.end()));
}

BatchSource ReadAhead(const RunConfig& config, const Samples& samples, int64_t end) {
  const TrainingConfig& training = config.training();
  const auto prefetcher = std::make_shared<Prefetcher>(
      [&samples](int64_t first, int64_t count) { return samples.Get(first, count); },
      ReadPlan{.count = training.micro_batch(),
               .batches = training.global_batch() / (training.micro_batch() * config.parallel().data()),
               .stride = training.global_batch(),
               .end = end});
  BatchSource source([prefetcher](int64_t first, int64_t count) { return prefetcher->Get(first, count); },
                     samples.weighted());
  if (ShortensBatches(config)) {
    source.lengths = [&samples](int64_t first, int64_t count) { return *samples.Lengths(first, count); };
  }
  return source;
}

std::string DescribeData(const RunConfig& config, const RunData& data, int64_t samples) {
  const TaskData& train = data.train;
  std::string text = absl::StrCat("Data: ", samples, " ", train.unit, " from ");
  const auto epochs = [&](const TaskData::Source& source) {
    return absl::StrFormat("%.3g epochs", source.epochs(samples));
  };
  if (train.sources.size() == 1) {
    absl::StrAppend(&text, train.samples->samples(), ", ", epochs(train.sources.front()), ".\n");
  } else {
    absl::StrAppend(&text, train.sources.size(), " sources by weight:\n");
    double sum = 0;
    for (const double weight : config.data().weights()) sum += weight;
    for (size_t i = 0; i < train.sources.size(); ++i) {
      const TaskData::Source& source = train.sources[i];
      absl::StrAppendFormat(&text, "  %5.1f%%  %s: %d samples, %s by the end\n",
                            100 * config.data().weights(static_cast<int>(i)) / sum, source.name, source.samples,
                            epochs(source));
    }
  }
  if (!train.note.empty()) absl::StrAppend(&text, "  ", train.note, ".\n");
  return text;
}

}  // namespace trefoil
