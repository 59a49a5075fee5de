#include "launcher/commands/tokenize.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>

#include "data/tokens/json/bpe_trainer.h"
#include "data/tokens/json/word_counter.h"
#include "data/tokens/tokenizer.h"
#include "launcher/commands/commands.h"
#include "launcher/corpus_flags.h"
#include "launcher/flags/input.h"
#include "launcher/flags/output.h"
#include "launcher/flags/overwrite.h"
#include "launcher/given_flags.h"
#include "launcher/report/progress.h"
#include "launcher/staged_output.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/host/cpu_features.h"
#include "runtime/number_text.h"

DEFINE_string(records, "",
              "Write records from the lines of .jsonl files, not text: pairs, of fields \"source\" and \"target\"; "
              "labels, of \"text\" (and \"text_pair\") and \"label\", a class or a value such as 2.5, or of lists "
              "\"words\" and \"label\"; or conversations, of \"messages\" with \"role\" and \"content\".");
DEFINE_string(tokenizer, "",
              "A tokenizer to use, tokenizer.json or SentencePiece's .model, or a folder with one. Empty: train one on "
              "the input.");
DEFINE_string(tokenizer_kind, "sentencepiece",
              "What to train: sentencepiece, or byte_bpe, a tokenizer.json of Hugging Face's.");
DEFINE_int64(vocabulary, 0, "Size of the tokenizer's vocabulary. 0: 4096, or what --tokenizer has.");
DEFINE_int64(shard_bytes, 0, "Input bytes per pair of token files. 0: 32 MiB, or more to make at most 1024.");
DEFINE_bool(allow_binary, false,
            "Take the bytes of files that are not UTF-8 text as they are, instead of refusing them.");

namespace trefoil {
namespace {

constexpr int64_t kDefaultVocabulary = 4096;
constexpr int64_t kSampleBytes = int64_t{16} << 20;  // for training the tokenizer

// Of a name in a folder that has `names`, which are sorted. A .json is ours only with a pair that it describes.
bool IsOurs(std::string name, const std::vector<std::string>& names) {
  if (IsTokenizerFile(name)) return true;
  if (!absl::StartsWith(name, "train-") && !absl::StartsWith(name, "held_out-")) return false;
  if (absl::EndsWith(name, ".json")) {
    name.replace(name.size() - 5, 5, ".bin");
    return std::binary_search(names.begin(), names.end(), name);
  }
  return absl::EndsWith(name, ".bin") || absl::EndsWith(name, ".idx");
}

// What is to be tokenized: records, or without a plan of them text.
struct Work {
  const CorpusPlan& corpus;
  std::optional<RecordPlan> records = {};
};

// Reads the records, if that is what they are. Every rank does.
absl::Status PlanWork(const TokenizeRun& run, bool first, Work* work) {
  if (!run.records) return absl::OkStatus();
  ProgressBar bar("reading   ", first ? work->corpus.bytes : 0, 1);
  const int64_t sample_bytes = first && run.tokenizer.empty() ? kSampleBytes : 0;
  const RecordOptions options = {.kind = *run.records, .labels = run.labels, .sample_bytes = sample_bytes};
  TREFOIL_ASSIGN_OR_RETURN(work->records,
                           PlanRecords(work->corpus, options, [&](int64_t bytes) { bar.Add(bytes); }));
  bar.Finish();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Sample(const Work& work) {
  if (work.records) return work.records->sample;
  ProgressBar bar("reading   ", work.corpus.bytes, 1);
  auto texts = SampleTexts(work.corpus, kSampleBytes, [&](int64_t bytes) { bar.Add(bytes); });
  if (texts.ok()) bar.Finish();
  return texts;
}

absl::StatusOr<Tokenizer> TrainOnWords(const Work& work, int64_t vocabulary) {
  WordCounter counter({.threads = CoresAllowed()});
  if (work.records) {
    for (const std::string& text : work.records->sample) counter.Add(text);
  } else {
    ProgressBar bar("reading   ", work.corpus.bytes, 1);
    TREFOIL_RETURN_IF_ERROR(ForEachTrainingBlock(
        work.corpus, [&](int64_t bytes) { bar.Add(bytes); },
        [&](std::string_view text, uint64_t) { counter.Add(text); }));
    bar.Finish();
  }
  const WordCounts words = counter.Take();
  std::cerr << absl::StrFormat("training a tokenizer of %d pieces on %s different words\n", vocabulary,
                               WithCommas(words.size()));
  TREFOIL_ASSIGN_OR_RETURN(TokenizerFiles files, TrainByteBpe(words, vocabulary));
  return Tokenizer::Of(std::move(files), "trained tokenizer");
}

absl::StatusOr<Tokenizer> TrainTokenizer(const Work& work, TrainedKind kind, int64_t vocabulary) {
  if (kind == TrainedKind::kByteBpe) return TrainOnWords(work, vocabulary);
  TREFOIL_ASSIGN_OR_RETURN(const auto texts, Sample(work));
  int64_t bytes = 0;
  for (const std::string& text : texts) bytes += static_cast<int64_t>(text.size());
  std::cerr << absl::StrFormat("training a tokenizer of %d pieces on %.1f MB\n", vocabulary, bytes / 1e6);
  return Tokenizer::Train(texts, vocabulary);
}

absl::StatusOr<Tokenizer> LoadTokenizer(FileSystem& fs, const TokenizeRun& run) {
  TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(fs, run.tokenizer));
  if (run.vocabulary != 0 && run.vocabulary != tokenizer.vocabulary()) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", run.vocabulary, ", but ", run.tokenizer, " has ",
                                                   tokenizer.vocabulary(), "; give that, or leave it out"));
  }
  return tokenizer;
}

absl::Status CheckCounts(const Work& work, const CorpusCounts& counts) {
  const CorpusPlan& plan = work.corpus;
  if (counts.train_tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("input: zero-length corpus: ", counts.documents, " documents of ", plan.paths.size(),
                     " files have no text to train on; more text is needed"));
  }
  if (plan.options.held_out > 0 && counts.held_out_tokens == 0) {
    if (work.records) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "held_out: %g of %d records is none, and %d had a text that is trained on; take a larger share, another "
          "split_seed, or 0",
          plan.options.held_out, counts.documents, work.records->neither));
    }
    return absl::InvalidArgumentError(absl::StrFormat(
        "held_out: %g of so little text (%d bytes, chosen by blocks of %d) is none; take a larger share, "
        "another split_seed, or 0",
        plan.options.held_out, counts.text_bytes, plan.block_bytes));
  }
  return absl::OkStatus();
}

void Sum(Group& group, CorpusCounts* counts) {
  int64_t* const fields[] = {&counts->documents,     &counts->text_bytes,      &counts->bad_bytes,
                             &counts->train_tokens,  &counts->held_out_tokens, &counts->train_files,
                             &counts->held_out_files};
  double values[std::size(fields)];  // exact: below 2^53
  for (size_t i = 0; i < std::size(fields); ++i) values[i] = static_cast<double>(*fields[i]);
  group.AllReduceSum(std::span<double>(values));
  for (size_t i = 0; i < std::size(fields); ++i) *fields[i] = static_cast<int64_t>(values[i]);
}

void PrintRecords(const RecordPlan& plan, std::ostream& out) {
  out << absl::StrFormat("records      %s: %s; %s to train on, %s held out\n", Name(plan.options.kind),
                         Names(plan.description.parts), WithCommas(plan.train), WithCommas(plan.held_out));
  if (plan.neither > 0) {
    out << absl::StrFormat("note         %s records are on neither side: held out, they would show a text that is "
                           "trained on\n",
                           WithCommas(plan.neither));
  }
  const std::vector<std::string>& labels = plan.description.labels;
  if (labels.empty()) return;
  constexpr size_t kShown = 8;
  out << absl::StrFormat("classes      %d: %s%s\n", labels.size(),
                         absl::StrJoin(labels.begin(), labels.begin() + std::min(labels.size(), kShown), ", "),
                         labels.size() > kShown ? " ..." : "");
}

void PrintSummary(const TokenizeRun& run, const Work& work, const CorpusCounts& counts, const Tokenizer& tokenizer,
                  double seconds, int ranks, std::ostream& out) {
  const int64_t tokens = counts.train_tokens + counts.held_out_tokens;
  out << absl::StrFormat("text         %.2f MB, %s documents, %d files\n", counts.text_bytes / 1e6,
                         WithCommas(counts.documents), work.corpus.paths.size());
  if (work.records) PrintRecords(*work.records, out);
  out << absl::StrFormat("tokenizer    %s/%s, vocabulary %s, %.2f bytes a token\n", run.output,
                         TokenizerFileName(tokenizer.files().json), WithCommas(tokenizer.vocabulary()),
                         static_cast<double>(counts.text_bytes) / tokens);
  const auto side = [&](const char* label, const char* name, int64_t side_tokens, int64_t files) {
    out << absl::StrFormat("%-12s %s/%s-*, %s tokens (%.1f%%), %d %s\n", label, run.output, name,
                           WithCommas(side_tokens), 100.0 * side_tokens / tokens, files,
                           files == 1 ? "pair of files" : "pairs of files");
  };
  side("train", "train", counts.train_tokens, counts.train_files);
  if (counts.held_out_tokens > 0) side("held out", "held_out", counts.held_out_tokens, counts.held_out_files);
  out << absl::StrFormat("time         %.1f s, tokenizing at %.1f MB/s on %d %s\n", seconds,
                         counts.text_bytes / 1e6 / std::max(seconds, 1e-3), ranks, ranks == 1 ? "rank" : "ranks");
  if (counts.bad_bytes > 0) {
    out << absl::StrFormat("note         %s bytes of the text (%.2g%%) are not UTF-8: each is a token of its own\n",
                           WithCommas(counts.bad_bytes), 100.0 * counts.bad_bytes / counts.text_bytes);
  }
  if (!tokenizer.exact()) out << "note         this tokenizer normalises: decoded text may differ from the input\n";
}

// What RunTokenize does between making `partial` and removing it.
absl::Status WriteCorpus(FileSystem& fs, const TokenizeRun& run, const CorpusPlan& plan, StagedOutput* output,
                         Group& group, std::ostream& out) {
  const std::string partial = StagedOutput::Partial(run.output);
  const bool first = group.rank() == 0;
  Work work{.corpus = plan};
  TREFOIL_RETURN_IF_ERROR(group.Agree(PlanWork(run, first, &work)));
  std::optional<Tokenizer> tokenizer;
  const auto keep = [&](absl::StatusOr<Tokenizer> made) {
    if (made.ok()) tokenizer = *std::move(made);
    return made.status();
  };
  absl::Status status;
  if (first) {
    const int64_t vocabulary = run.vocabulary == 0 ? kDefaultVocabulary : run.vocabulary;
    status = keep(run.tokenizer.empty() ? TrainTokenizer(work, run.kind, vocabulary) : LoadTokenizer(fs, run));
    if (status.ok()) status = tokenizer->Save(fs, partial);
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  if (!first) {
    status = keep(Tokenizer::Load(fs, partial));
    if (!status.ok()) {
      status = absl::FailedPreconditionError(absl::StrCat("rank ", group.rank(),
                                                          " cannot read what rank 0 wrote: ", status.message(),
                                                          "; output is to be a folder that all hosts see"));
    }
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));

  int64_t my_bytes = 0;
  for (int64_t shard = group.rank(); shard < plan.shard_count(); shard += group.size()) {
    for (int64_t s = plan.shards[shard]; s < plan.shards[shard + 1]; ++s) my_bytes += plan.slices[s].bytes();
  }
  const auto start = std::chrono::steady_clock::now();
  ProgressBar bar("tokenizing", first ? my_bytes : 0, std::min<int>(group.size(), plan.shard_count()));
  const CorpusProgress progress = [&](int64_t bytes) { bar.Add(bytes); };
  auto counts =
      work.records
          ? TokenizeRecordShare(fs, *work.records, partial, *tokenizer, group.rank(), group.size(), progress)
          : TokenizeShare(fs, plan, partial, *tokenizer, group.rank(), group.size(), progress);
  if (counts.ok()) bar.Finish();
  TREFOIL_RETURN_IF_ERROR(group.Agree(counts.status()));
  Sum(group, &*counts);
  TREFOIL_RETURN_IF_ERROR(CheckCounts(work, *counts));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  TREFOIL_RETURN_IF_ERROR(group.Agree(first ? output->Publish() : absl::OkStatus()));
  if (first) PrintSummary(run, work, *counts, *tokenizer, seconds, group.size(), out);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunTokenize(FileSystem& fs, const TokenizeRun& run, Group& group, std::ostream& out) {
  const bool first = group.rank() == 0;
  absl::Status status;
  if (run.output.empty()) status = absl::InvalidArgumentError("output: empty; name a folder to write to");
  auto plan = PlanCorpus(run.corpus);
  if (status.ok()) status = plan.status();
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  std::unique_ptr<StagedOutput> output;  // rank 0's
  if (first) {
    // A .json follows its .bin by name.
    const auto is_index = [](const std::string& name) { return absl::EndsWith(name, ".idx"); };
    auto begun = StagedOutput::Begin(fs, run.output, {.ours = IsOurs, .last = is_index}, run.overwrite);
    status = begun.status();
    if (status.ok()) output = *std::move(begun);
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  return WriteCorpus(fs, run, *plan, output.get(), group, out);
}

int TokenizeMain(int argc, char** argv) {
  auto world = NewMpiWorld(&argc, &argv);
  world->set_timeout_seconds(24 * 3600);  // ranks wait for rank 0 to read and train
  TokenizeRun run;
  if (!FLAGS_input.empty()) run.corpus.inputs.push_back(FLAGS_input);
  run.corpus.inputs.insert(run.corpus.inputs.end(), argv + 1, argv + argc);
  run.corpus.held_out = FLAGS_held_out;
  run.corpus.seed = FLAGS_split_seed;
  run.corpus.shard_bytes = FLAGS_shard_bytes;
  run.corpus.any_bytes = FLAGS_allow_binary;
  run.output = FLAGS_output;
  run.tokenizer = FLAGS_tokenizer;
  run.vocabulary = FLAGS_vocabulary;
  const bool byte_bpe = FLAGS_tokenizer_kind == "byte_bpe";
  if (byte_bpe) run.kind = TrainedKind::kByteBpe;
  run.overwrite = FLAGS_overwrite;
  absl::Status status = CheckSameOnRanks(world->all(), CommandLineFacts(run.corpus.inputs));
  if (status.ok()) status = CheckCorpusFlags();
  if (!byte_bpe && FLAGS_tokenizer_kind != "sentencepiece" && status.ok()) {
    status = absl::InvalidArgumentError(absl::StrCat("--tokenizer_kind: ", FLAGS_tokenizer_kind,
                                                     " is neither sentencepiece nor byte_bpe"));
  }
  if (byte_bpe && !run.tokenizer.empty() && status.ok()) {
    status = absl::InvalidArgumentError("--tokenizer_kind: is of the tokenizer that is trained, and --tokenizer names one "
                                        "that is there; leave one out");
  }
  if (!FLAGS_records.empty() && status.ok()) {
    const auto kind = RecordKindOf(FLAGS_records, "--records");
    status = kind.status();
    if (kind.ok()) run.records = *kind;
  }
  if (run.records && FLAGS_allow_binary && status.ok()) {
    status = absl::InvalidArgumentError("--allow_binary: --records reads JSON, which is UTF-8; leave one out");
  }
  if (!FLAGS_labels.empty() && status.ok()) {
    run.labels = absl::StrSplit(FLAGS_labels, ',');
    if (run.records != RecordKind::kLabels) {
      status = absl::InvalidArgumentError("--labels: names classes, which only --records=labels has; leave it out");
    }
  }
  if (status.ok()) status = RunTokenize(FileSystem::Posix(), run, world->all(), std::cout);
  if (status.ok()) return 0;
  if (world->rank() == 0) std::cerr << "trefoil tokenize: " << std::string(status.message()) << "\n";
  return 1;
}

}  // namespace trefoil
