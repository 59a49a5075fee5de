#include "data/text/tokenize_records.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "data/text/text_sample.h"
#include "data/text/token_file_series.h"
#include "data/text/words.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

// Of a text, for a seed.
uint64_t HashOf(const std::string& text, uint64_t seed) { return RandomKey(seed, text); }

// Both texts' hashes; of a record without a second the first again.
struct TextHashes {
  TextHashes(const RecordLine& record, const CorpusPlan& corpus)
      : first(HashOf(record.text, corpus.options.seed)),
        second(record.text_pair.empty() ? first : HashOf(record.text_pair, corpus.options.seed)) {}
  bool IsHeldOut(const CorpusPlan& corpus) const {
    return static_cast<double>(first >> 11) * 0x1p-53 < corpus.options.held_out;
  }
  bool AreAmong(const std::vector<uint64_t>& sorted) const {
    return std::binary_search(sorted.begin(), sorted.end(), first) ||
           std::binary_search(sorted.begin(), sorted.end(), second);
  }
  uint64_t first, second;
};

// Calls `use` with each record of a slice; what it finds wrong gets the line's place.
absl::Status ReadRecords(const RecordPlan& plan, int64_t slice, const CorpusProgress& progress,
                         const std::function<absl::Status(const RecordLine&, const JsonLine&)>& use) {
  const TextSlice& text = plan.corpus.slices[static_cast<size_t>(slice)];
  SliceProgress slice_progress(text, progress);
  TREFOIL_RETURN_IF_ERROR(ReadJsonLines(text, [&](const JsonLine& line) -> absl::Status {
    const auto record = ParseRecordLine(line.json, plan.options.kind);
    if (!record.ok()) return line.Error(std::string(record.status().message()));
    TREFOIL_RETURN_IF_ERROR(use(*record, line));
    slice_progress.Update(line.slice_done);
    return absl::OkStatus();
  }));
  slice_progress.Update(1);
  return absl::OkStatus();
}

// The classes that occur, of names or of numbers.
class Classes {
 public:
  // Failure: a name beside numbers; a class that is none of `labels`.
  absl::Status Add(const Class& label, const std::vector<std::string>& labels) {
    if (!first_) first_ = label;
    if (first_->index() != label.index()) {
      const bool name = std::holds_alternative<std::string>(label);
      return absl::InvalidArgumentError(absl::StrCat("label ", Text(label), " is a ", name ? "name" : "number",
                                                     ", but ", Text(*first_), " was a ", name ? "number" : "name",
                                                     "; classes have all names or all numbers"));
    }
    if (std::holds_alternative<int64_t>(label)) most_ = std::max(most_, std::get<int64_t>(label));
    if (labels.empty()) {
      if (std::holds_alternative<std::string>(label)) names_.insert(std::get<std::string>(label));
      return absl::OkStatus();
    }
    if (std::holds_alternative<int64_t>(label)) {
      if (most_ < static_cast<int64_t>(labels.size())) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat("label ", most_, ", but there are names of ", labels.size(),
                                                     " labels only: 0 to ", labels.size() - 1));
    }
    if (std::find(labels.begin(), labels.end(), std::get<std::string>(label)) != labels.end()) return absl::OkStatus();
    const std::string nearest = NearestName(Text(label), labels);
    return absl::InvalidArgumentError(
        absl::StrCat("label ", Text(label), " is none of ", absl::StrJoin(labels, ", "),
                     nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names(names_.begin(), names_.end());
    for (int64_t number = 0; number <= most_; ++number) names.push_back(absl::StrCat(number));
    return names;
  }

 private:
  std::optional<Class> first_;
  std::set<std::string> names_;
  int64_t most_ = -1;
};

// Records to ids: what its documents hold.
class RecordEncoder {
 public:
  RecordEncoder(const RecordDescription& description, Tokenizer& tokenizer)
      : description_(description), tokenizer_(tokenizer) {
    for (size_t id = 0; id < description.labels.size(); ++id) ids_[description.labels[id]] = static_cast<int32_t>(id);
  }

  absl::StatusOr<std::vector<std::vector<int32_t>>> Encode(const RecordLine& record) {
    std::vector<std::vector<int32_t>> documents;
    if (!record.messages.empty()) {
      documents.resize(2);
      for (const Message& message : record.messages) AppendMessage(tokenizer_, message, &documents[0], &documents[1]);
      return documents;
    }
    if (!record.words.empty()) {
      documents.resize(2);
      AppendWords(record, &documents[0], &documents[1]);
    } else {
      documents.push_back(tokenizer_.Encode(record.text));
      if (!record.text_pair.empty()) documents.push_back(tokenizer_.Encode(record.text_pair));
    }
    for (size_t part = 0; part < documents.size(); ++part) {
      if (documents[part].empty()) {
        return absl::InvalidArgumentError(absl::StrCat("the ", Name(description_.parts[part]), " \"",
                                                       part == 0 ? record.text : record.text_pair,
                                                       "\" has no token; this tokenizer leaves out all of it"));
      }
    }
    if (record.label) documents.push_back({IdOf(*record.label)});
    if (record.value) documents.push_back(ValueIds(*record.value));
    return documents;
  }

 private:
  // A word's label is its first token's (as of Devlin et al. 2019, section 5.3); the others have none.
  void AppendWords(const RecordLine& record, std::vector<int32_t>* ids, std::vector<int32_t>* labels) {
    const std::vector<std::vector<int32_t>> of_words = EncodeWords(tokenizer_, record.words);
    for (size_t word = 0; word < of_words.size(); ++word) {
      if (of_words[word].empty()) continue;
      ids->insert(ids->end(), of_words[word].begin(), of_words[word].end());
      const auto& label = record.word_labels[word];
      labels->push_back(label ? 1 + IdOf(*label) : 0);
      labels->resize(ids->size(), 0);
    }
  }

  int32_t IdOf(const Class& label) const {
    if (std::holds_alternative<int64_t>(label)) return static_cast<int32_t>(std::get<int64_t>(label));
    return ids_.at(std::get<std::string>(label));
  }

  const RecordDescription& description_;
  Tokenizer& tokenizer_;
  std::map<std::string, int32_t> ids_;  // of labels
};

}  // namespace

absl::StatusOr<RecordPlan> PlanRecords(const CorpusPlan& corpus, const RecordOptions& options,
                                       const CorpusProgress& progress) {
  RecordPlan plan{.corpus = corpus, .options = options};
  for (const std::string& path : corpus.paths) {
    if (IsJsonLines(path)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("input: ", path, ": not a .jsonl (.gz, .zst); records are lines of JSON"));
  }
  Classes classes;
  TextSample sample(options.sample_bytes);
  std::vector<TextHashes> held_out;
  const auto use = [&](const RecordLine& record, const JsonLine& line) -> absl::Status {
    const std::vector<RecordPart> parts = record.parts();
    if (plan.description.parts.empty()) plan.description.parts = parts;
    if (plan.description.parts != parts) {
      return line.Error(absl::StrCat(
          "is a record of ", Names(parts), ", but the first was of ", Names(plan.description.parts),
          "; all have the same", record.value || record.label ? " (a value has a point: 3.0; a class has none)" : ""));
    }
    absl::Status labels;
    if (record.label) labels = classes.Add(*record.label, options.labels);
    for (const auto& label : record.word_labels) {
      if (label && labels.ok()) labels = classes.Add(*label, options.labels);
    }
    if (!labels.ok()) return line.Error(std::string(labels.message()));
    const TextHashes hashes(record, corpus);
    if (hashes.IsHeldOut(corpus)) {
      held_out.push_back(hashes);
      return absl::OkStatus();
    }
    ++plan.train;
    plan.training_texts.push_back(hashes.first);
    if (hashes.second != hashes.first) plan.training_texts.push_back(hashes.second);
    if (options.sample_bytes == 0) return absl::OkStatus();
    std::string text = record.text;
    if (!record.text_pair.empty()) absl::StrAppend(&text, "\n", record.text_pair);
    for (const Message& message : record.messages) absl::StrAppend(&text, "\n", message.role, "\n", message.content);
    sample.Add(HashOf(text, corpus.options.seed + 1), text);
    return absl::OkStatus();
  };
  for (size_t slice = 0; slice < corpus.slices.size(); ++slice) {
    TREFOIL_RETURN_IF_ERROR(ReadRecords(plan, static_cast<int64_t>(slice), progress, use));
  }
  std::sort(plan.training_texts.begin(), plan.training_texts.end());
  plan.training_texts.erase(std::unique(plan.training_texts.begin(), plan.training_texts.end()),
                            plan.training_texts.end());
  plan.neither = std::count_if(held_out.begin(), held_out.end(),
                               [&](const TextHashes& hashes) { return hashes.AreAmong(plan.training_texts); });
  plan.held_out = static_cast<int64_t>(held_out.size()) - plan.neither;
  plan.sample = sample.Take();
  const bool has_classes =
      plan.description.Find(RecordPart::kLabel) >= 0 || plan.description.Find(RecordPart::kTokenLabels) >= 0;
  if (!options.labels.empty() && !has_classes) {
    return absl::InvalidArgumentError(absl::StrCat("labels: ", absl::StrJoin(options.labels, ","),
                                                   ", but these are records of ", Names(plan.description.parts),
                                                   ", which have no classes; leave it out"));
  }
  plan.description.labels = options.labels.empty() ? classes.Names() : options.labels;
  if (has_classes && plan.description.labels.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(corpus.paths.front(), ": no token of any record has a label"));
  }
  return plan;
}

absl::StatusOr<CorpusCounts> TokenizeRecordShare(FileSystem& fs, const RecordPlan& plan, const std::string& folder,
                                                 Tokenizer& tokenizer, int share, int shares,
                                                 const CorpusProgress& progress) {
  RecordDescription description = plan.description;
  description.vocabulary = tokenizer.vocabulary();
  description.tokenizer = tokenizer.checksum();
  RecordEncoder encoder(description, tokenizer);
  CorpusCounts counts;
  for (int64_t shard = share; shard < plan.corpus.shard_count(); shard += shares) {
    const auto side = [&](const char* name) {
      return TokenFileSeries(fs, absl::StrFormat("%s/%s-%05d", folder, name, shard), description.StoredVocabulary(),
                             plan.corpus.options.file_tokens, ToJson(description));
    };
    TokenFileSeries train = side("train"), held_out = side("held_out");
    const auto use = [&](const RecordLine& record, const JsonLine& line) -> absl::Status {
      ++counts.documents;
      for (const std::string* text : {&record.text, &record.text_pair}) {
        if (record.messages.empty()) counts.text_bytes += static_cast<int64_t>(text->size());
      }
      for (const Message& message : record.messages) counts.text_bytes += static_cast<int64_t>(message.content.size());
      const TextHashes hashes(record, plan.corpus);
      const bool held = hashes.IsHeldOut(plan.corpus);
      if (held && hashes.AreAmong(plan.training_texts)) return absl::OkStatus();
      const auto documents = encoder.Encode(record);
      if (!documents.ok()) return line.Error(std::string(documents.status().message()));
      TREFOIL_ASSIGN_OR_RETURN(TokenFileWriter * writer, (held ? held_out : train).Writer());
      for (const auto& document : *documents) TREFOIL_RETURN_IF_ERROR(writer->AddDocument(document));
      return absl::OkStatus();
    };
    for (int64_t slice = plan.corpus.shards[shard]; slice < plan.corpus.shards[shard + 1]; ++slice) {
      TREFOIL_RETURN_IF_ERROR(ReadRecords(plan, slice, progress, use));
    }
    TREFOIL_RETURN_IF_ERROR(train.Finish());
    TREFOIL_RETURN_IF_ERROR(held_out.Finish());
    counts.train_tokens += train.tokens();
    counts.held_out_tokens += held_out.tokens();
    counts.train_files += train.files();
    counts.held_out_files += held_out.files();
  }
  return counts;
}

}  // namespace trefoil
