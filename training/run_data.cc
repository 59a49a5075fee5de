#include "training/run_data.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <vector>

#include "data/prefetcher.h"
#include "parallel/same_on_ranks.h"

namespace trefoil {
namespace {

constexpr uint64_t kHeldOutSeed = 0;

absl::StatusOr<RunData> Open(const RunConfig& config) {
  const int64_t length = config.model().sequence_length(), vocabulary = config.model().vocabulary();
  const DataConfig& data = config.data();
  RunData opened;
  TREFOIL_ASSIGN_OR_RETURN(opened.train,
                           Loader::Open({data.train().begin(), data.train().end()}, length, vocabulary, data.seed(),
                                        {data.weights().begin(), data.weights().end()}));
  if (data.held_out().empty()) return opened;
  TREFOIL_ASSIGN_OR_RETURN(opened.held_out, Loader::Open({data.held_out().begin(), data.held_out().end()}, length,
                                                         vocabulary, kHeldOutSeed));
  opened.evaluation_samples = std::min<int64_t>(opened.held_out->samples(), config.training().evaluate_samples());
  return opened;
}

// Names without their folder, which may differ from host to host.
void AddFacts(const std::string& field, const Loader& loader, std::vector<RankFact>* facts) {
  const std::vector<const TokenFile*> files = loader.files();
  facts->push_back({field, absl::StrCat(files.size(), " files of ", loader.tokens(), " tokens")});
  for (const TokenFile* file : files) {
    const std::string name = file->prefix().substr(file->prefix().rfind('/') + 1);
    facts->push_back({field + ", file " + name, absl::StrCat(file->tokens(), " tokens, checksum ", file->checksum())});
  }
}

// Of the targets in this data rank's share of an evaluation.
absl::StatusOr<std::vector<int64_t>> CountShare(const RunData& data, const Worker& worker) {
  const int64_t ranks = worker.mesh.size(Axis::kData), rank = worker.mesh.index(Axis::kData);
  const int64_t first = data.evaluation_samples * rank / ranks, end = data.evaluation_samples * (rank + 1) / ranks;
  std::vector<int64_t> counts(static_cast<size_t>(worker.config.model().vocabulary()));
  TREFOIL_RETURN_IF_ERROR(data.held_out->CountTargets(first, end - first, counts));
  return counts;
}

}  // namespace

double RunData::Epochs(int64_t samples) const {
  return train == nullptr ? 0 : static_cast<double>(samples) / static_cast<double>(train->samples());
}

absl::StatusOr<RunData> OpenRunData(const RunConfig& config, Group& all) {
  const bool reads = ReadsData(config, all.rank());
  absl::StatusOr<RunData> data = reads ? Open(config) : RunData();
  TREFOIL_RETURN_IF_ERROR(all.Agree(data.status()));
  std::vector<RankFact> facts;
  if (data->train != nullptr) AddFacts("data.train", *data->train, &facts);
  if (data->held_out != nullptr) AddFacts("data.held_out", *data->held_out, &facts);
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, facts));
  auto samples = static_cast<double>(data->evaluation_samples);
  all.AllReduceMax(std::span(&samples, 1));
  data->evaluation_samples = static_cast<int64_t>(samples);
  return data;
}

absl::StatusOr<double> UnigramEntropy(const RunData& data, Worker& worker) {
  // Rank 0 and the ranks that do the same for other shares of the batch.
  const bool counts = worker.role.reads_inputs && worker.tensor->rank() == 0;
  const auto share = counts ? CountShare(data, worker) : std::vector<int64_t>();
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(share.status()));
  if (!counts) return 0;
  std::vector<double> sums(share->begin(), share->end());  // exact: below 2^53
  worker.data->AllReduceSum(std::span(sums));
  return Entropy(std::vector<int64_t>(sums.begin(), sums.end()));
}

BatchSource ReadAhead(const RunConfig& config, const Loader& loader, int64_t end) {
  const TrainingConfig& training = config.training();
  const auto prefetcher = std::make_shared<Prefetcher>(
      [&loader](int64_t first, int64_t count) { return loader.Get(first, count); },
      ReadPlan{.count = training.micro_batch(),
               .batches = training.global_batch() / (training.micro_batch() * config.parallel().data()),
               .stride = training.global_batch(),
               .end = end});
  return [prefetcher](int64_t first, int64_t count) { return prefetcher->Get(first, count); };
}

std::string DescribeData(const RunConfig& config, const RunData& data, int64_t samples) {
  const Loader& train = *data.train;
  const size_t sources = train.sources().size();
  std::string text = absl::StrCat("Data: ", samples, " samples of ", train.sequence_length(), " tokens from ");
  const auto epochs = [&](size_t source) {
    return absl::StrFormat("%.3g epochs", train.Epochs(static_cast<int>(source), samples));
  };
  if (sources == 1) {
    absl::StrAppend(&text, train.samples(), ", ", epochs(0), ".\n");
  } else {
    absl::StrAppend(&text, sources, " sources by weight:\n");
  }
  double sum = 0;
  for (const double weight : config.data().weights()) sum += weight;
  for (size_t i = 0; i < sources && sources > 1; ++i) {
    const Loader::Source& source = train.sources()[i];
    absl::StrAppendFormat(&text, "  %5.1f%%  %s: %d samples, %s by the end\n",
                          100 * config.data().weights(static_cast<int>(i)) / sum, source.glob, source.set.samples(),
                          epochs(i));
  }
  return text;
}

}  // namespace trefoil
