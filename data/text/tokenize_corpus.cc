#include "data/text/tokenize_corpus.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "data/split_mix.h"
#include "data/text/text_sample.h"
#include "data/text/token_file_series.h"

namespace trefoil {
namespace {

constexpr int64_t kSmallestShard = int64_t{32} << 20;
constexpr int64_t kMostShards = 1024;

// Of a pair of numbers.
uint64_t HashOf(uint64_t a, uint64_t b) {
  return SplitMix64(SplitMix64(a * kGoldenGamma + b + 0x632be59bd9b4e019u));
}

// One side (train or held out) of a shard.
class Side {
 public:
  Side(FileSystem& fs, std::string prefix, const Tokenizer& tokenizer, int64_t file_tokens)
      : files_(fs, std::move(prefix), tokenizer.vocabulary(), file_tokens), end_(tokenizer.end_of_text()) {}

  absl::Status Add(std::span<const int32_t> ids) {
    if (ids.empty()) return absl::OkStatus();
    TREFOIL_ASSIGN_OR_RETURN(TokenFileWriter * writer, files_.Writer());
    open_ = true;
    return writer->AddTokens(ids);
  }

  // Ends the document at hand, if there is one.
  absl::Status EndDocument() {
    if (!open_) return absl::OkStatus();
    TREFOIL_ASSIGN_OR_RETURN(TokenFileWriter * writer, files_.Writer());
    TREFOIL_RETURN_IF_ERROR(writer->AddTokens({&end_, 1}));
    writer->EndDocument();
    open_ = false;
    return absl::OkStatus();
  }

  TokenFileSeries& files() { return files_; }

 private:
  TokenFileSeries files_;
  const int32_t end_;
  bool open_ = false;  // a document has tokens and no end
};

}  // namespace

bool CorpusPlan::IsHeldOut(int64_t slice, int64_t block) const {
  const double u = static_cast<double>(HashOf(options.seed, slice) >> 11) * 0x1p-53;
  const double h = options.held_out;
  return std::floor((static_cast<double>(block) + 1) * h + u) > std::floor(static_cast<double>(block) * h + u);
}

absl::StatusOr<CorpusPlan> PlanCorpus(const CorpusOptions& options) {
  if (!(options.held_out >= 0 && options.held_out <= 0.5)) {
    return absl::InvalidArgumentError(absl::StrCat("held_out: ", options.held_out, " is outside [0, 0.5]; nearest: ",
                                                   options.held_out > 0.5 ? "0.5" : "0"));
  }
  if (options.shard_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("shard_bytes: ", options.shard_bytes, " is negative; 0 chooses, else at least 1"));
  }
  CorpusPlan plan;
  plan.options = options;
  TREFOIL_ASSIGN_OR_RETURN(plan.paths, ExpandInputs(options.inputs));
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<TextSlice> whole, SliceInputs(plan.paths, INT64_MAX));
  for (const TextSlice& slice : whole) plan.bytes += slice.bytes();
  if (plan.bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat(plan.paths.front(), plan.paths.size() > 1 ? " ..." : "",
                                                   ": zero-length corpus: ", plan.paths.size(),
                                                   " files have 0 bytes in all; at least 1 is needed"));
  }
  const int64_t shard_bytes =
      options.shard_bytes > 0 ? options.shard_bytes : std::max(kSmallestShard, plan.bytes / kMostShards + 1);
  TREFOIL_ASSIGN_OR_RETURN(plan.slices, SliceInputs(plan.paths, shard_bytes));
  plan.block_bytes = std::clamp<int64_t>(plan.bytes / 400, int64_t{1} << 10, int64_t{16} << 10);
  plan.shards = {0};
  int64_t bytes = 0;
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    if (bytes > 0 && bytes + plan.slices[i].bytes() > shard_bytes) {
      plan.shards.push_back(static_cast<int64_t>(i));
      bytes = 0;
    }
    bytes += plan.slices[i].bytes();
  }
  plan.shards.push_back(static_cast<int64_t>(plan.slices.size()));
  return plan;
}

absl::Status ForEachTrainingBlock(const CorpusPlan& plan, const CorpusProgress& progress,
                                  const std::function<void(std::string_view text, uint64_t hash)>& use) {
  for (size_t s = 0; s < plan.slices.size(); ++s) {
    SliceProgress slice_progress(plan.slices[s], progress);
    int64_t number = 0;
    TREFOIL_RETURN_IF_ERROR(ReadSlice(plan.slices[s], plan.block_bytes, plan.options.any_bytes, [&](const TextBlock& block) {
      const int64_t b = number++;
      slice_progress.Update(block.slice_done);
      if (!plan.IsHeldOut(static_cast<int64_t>(s), b)) {
        use(block.text, HashOf(HashOf(plan.options.seed + 1, s), b));
      }
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SampleTexts(const CorpusPlan& plan, int64_t bytes,
                                                     const CorpusProgress& progress) {
  TextSample sample(bytes);
  TREFOIL_RETURN_IF_ERROR(ForEachTrainingBlock(
      plan, progress, [&](std::string_view text, uint64_t hash) { sample.Add(hash, text); }));
  return sample.Take();
}

absl::StatusOr<CorpusCounts> TokenizeShare(FileSystem& fs, const CorpusPlan& plan, const std::string& folder,
                                           Tokenizer& tokenizer, int share, int shares,
                                           const CorpusProgress& progress) {
  CorpusCounts counts;
  for (int64_t shard = share; shard < plan.shard_count(); shard += shares) {
    Side train(fs, absl::StrFormat("%s/train-%05d", folder, shard), tokenizer, plan.options.file_tokens);
    Side held_out(fs, absl::StrFormat("%s/held_out-%05d", folder, shard), tokenizer, plan.options.file_tokens);
    for (int64_t s = plan.shards[shard]; s < plan.shards[shard + 1]; ++s) {
      SliceProgress slice_progress(plan.slices[s], progress);
      int64_t number = 0;
      std::string before;  // the end of the document at hand on the side where it is
      bool before_held = false;
      TREFOIL_RETURN_IF_ERROR(ReadSlice(plan.slices[s], plan.block_bytes, plan.options.any_bytes, [&](const TextBlock& block) {
        const bool held = plan.IsHeldOut(s, number++);
        Side& side = held ? held_out : train;
        TREFOIL_RETURN_IF_ERROR((held ? train : held_out).EndDocument());
        if (held != before_held) before.clear();
        TREFOIL_RETURN_IF_ERROR(side.Add(tokenizer.Encode(block.text, before)));
        before_held = held;
        if (!block.text.empty()) before = block.text.back();
        if (block.ends_document) {
          TREFOIL_RETURN_IF_ERROR(side.EndDocument());
          before.clear();
          ++counts.documents;
        }
        counts.text_bytes += static_cast<int64_t>(block.text.size());
        counts.bad_bytes += block.bad_bytes;
        slice_progress.Update(block.slice_done);
        return absl::OkStatus();
      }));
      slice_progress.Update(1);
    }
    TREFOIL_RETURN_IF_ERROR(train.files().Finish());
    TREFOIL_RETURN_IF_ERROR(held_out.files().Finish());
    counts.train_tokens += train.files().tokens();
    counts.held_out_tokens += held_out.files().tokens();
    counts.train_files += train.files().files();
    counts.held_out_files += held_out.files().files();
  }
  return counts;
}

}  // namespace trefoil
