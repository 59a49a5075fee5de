#include "training/run_data.h"

#include <algorithm>
#include <string>
#include <vector>

#include "parallel/same_on_ranks.h"

namespace trefoil {
namespace {

absl::StatusOr<RunData> Open(const RunConfig& config) {
  const int64_t length = config.model().sequence_length(), vocabulary = config.model().vocabulary();
  const DataConfig& data = config.data();
  RunData opened;
  TREFOIL_ASSIGN_OR_RETURN(
      opened.train, Loader::Open({data.train().begin(), data.train().end()}, length, vocabulary, data.seed()));
  if (data.held_out().empty()) return opened;
  TREFOIL_ASSIGN_OR_RETURN(
      opened.held_out, Loader::Open({data.held_out().begin(), data.held_out().end()}, length, vocabulary, data.seed()));
  const int64_t batch = config.training().global_batch();
  if (opened.held_out->samples() < batch) {
    return absl::InvalidArgumentError(
        "data.held_out: " + std::to_string(opened.held_out->samples()) + " samples of " + std::to_string(length) +
        " tokens, fewer than training.global_batch " + std::to_string(batch) + "; evaluation takes whole batches");
  }
  const int64_t samples = std::min<int64_t>(opened.held_out->samples(), config.training().evaluate_samples());
  opened.evaluation_batches = std::max<int64_t>(1, samples / batch);
  TREFOIL_ASSIGN_OR_RETURN(opened.unigram_entropy, opened.held_out->UnigramEntropy());
  return opened;
}

// Names without their folder, which may differ from host to host.
void AddFacts(const std::string& field, const Loader& loader, std::vector<RankFact>* facts) {
  facts->push_back({field, std::to_string(loader.files().size()) + " files of " + std::to_string(loader.tokens()) +
                               " tokens"});
  for (const TokenFile& file : loader.files()) {
    const std::string name = file.prefix().substr(file.prefix().rfind('/') + 1);
    facts->push_back({field + ", file " + name, std::to_string(file.tokens()) + " tokens, checksum " +
                                                    std::to_string(file.checksum())});
  }
}

}  // namespace

absl::StatusOr<RunData> OpenRunData(const RunConfig& config, Group& all) {
  absl::StatusOr<RunData> data = Open(config);
  TREFOIL_RETURN_IF_ERROR(all.Agree(data.status()));
  std::vector<RankFact> facts;
  AddFacts("data.train", *data->train, &facts);
  if (data->held_out != nullptr) AddFacts("data.held_out", *data->held_out, &facts);
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, facts));
  return data;
}

}  // namespace trefoil
