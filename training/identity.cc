#include "training/identity.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

#include "runtime/files/crc32c.h"
#include "runtime/version.h"

namespace trefoil {
namespace {

using TokenFiles = google::protobuf::RepeatedPtrField<TokenFileState>;

void Describe(const TaskData& data, TokenFiles* files) {
  for (const TaskData::File& file : data.files) {
    TokenFileState& state = *files->Add();
    state.set_name(file.name);
    state.set_tokens(file.items);
    state.set_checksum(file.checksum);
    if (file.source == 0) continue;
    state.set_source(file.source);
    state.set_share(file.share);
  }
}

// What of the corpus decides which tokens are sample k: not where its files lie or what they are called.
std::string Content(const TokenFiles& files) {
  std::string content;
  for (const TokenFileState& file : files) {
    absl::StrAppend(&content, file.tokens(), " ", file.checksum());
    if (file.source() > 0) absl::StrAppendFormat(&content, " %d %.9g", file.source(), file.share());
    absl::StrAppend(&content, "\n");
  }
  return content;
}

std::string Shown(const TokenFiles& files) {
  int64_t tokens = 0;
  for (const TokenFileState& file : files) tokens += file.tokens();
  const std::string mixed = files.rbegin()->source() > 1 ? absl::StrCat(" from ", files.rbegin()->source(), " sources") : "";
  return absl::StrFormat("%d %s of %d tokens%s (%08x)", files.size(), files.size() == 1 ? "file" : "files", tokens, mixed,
                         Crc32c(Content(files)));
}

// Empty: unknown.
std::string Number(double value) { return value == 0 ? "" : absl::StrCat(value); }

std::string OneLine(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintToString(message, &text);
  return absl::StrCat("{", absl::StripTrailingAsciiWhitespace(text), "}");
}

std::string OptimizerText(const Identity& run) {
  return run.state.has_optimizer() ? OneLine(run.state.optimizer()) : "";
}

std::string FineTuningText(const Identity& run) {
  return run.state.has_fine_tuning() ? OneLine(run.state.fine_tuning()) : "";
}

std::string PrecisionText(const Identity& run) {
  const TrainingConfig::Precision precision = run.state.precision();
  return precision == TrainingConfig::PRECISION_UNSET ? "" : TrainingConfig::Precision_Name(precision);
}

std::string ProductsText(const Identity& run) {
  const RuntimeConfig::Bf16Products products = run.state.bf16_products();
  return products == RuntimeConfig::BF16_PRODUCTS_UNSET ? "" : RuntimeConfig::Bf16Products_Name(products);
}

std::string SumsText(const Identity& run) {
  const bool fastest = run.state.sums() == RuntimeConfig::FASTEST;
  return RuntimeConfig::Sums_Name(fastest ? RuntimeConfig::FASTEST : RuntimeConfig::ORDERED);
}

// Known of any run: of those from before there was any, none.
std::string RopeScalingText(const Identity& run) {
  const bool scaled = run.model.rope_scaling().kind() != RopeScaling::KIND_UNSET;
  return scaled ? OneLine(run.model.rope_scaling()) : "none";
}

struct Row {
  const char* name;
  std::string (*value)(const Identity& run);  // for comparing and for people; empty: unknown
  bool harmless;
  const char* consequence;
};

constexpr bool kHarmless = true, kNewMeaning = false;

const Row kRows[] = {
    {"data.train", [](const Identity& run) { return run.state.train().empty() ? "" : Shown(run.state.train()); },
     kNewMeaning, "samples may come twice or not at all"},
    {"data.tokenizer", [](const Identity& run) { return run.state.tokenizer(); }, kNewMeaning,
     "a token id stands for another piece of text"},
    {"data.seed", [](const Identity& run) { return absl::StrCat(run.state.data_seed()); }, kNewMeaning,
     "samples may come twice or not at all this epoch"},
    {"model.sequence_length", [](const Identity& run) { return Number(run.model.sequence_length()); }, kNewMeaning,
     "samples are other pieces of the corpus, so that some may come twice or not at all"},
    {"model.rope_theta", [](const Identity& run) { return Number(run.model.rope_theta()); }, kNewMeaning,
     "the weights were trained with other positions"},
    {"model.rope_scaling", RopeScalingText, kNewMeaning, "the weights were trained with other positions"},
    {"data.held_out", [](const Identity& run) { return run.state.held_out().empty() ? "" : Shown(run.state.held_out()); },
     kHarmless, "held-out losses from here on are of other text"},
    {"data.mask_documents",
     [](const Identity& run) { return std::string(run.state.mask_documents() ? "true" : "false"); }, kHarmless,
     "losses from here on are with what a document's tokens see of it"},
    {"training.precision", PrecisionText, kHarmless,
     "products are rounded otherwise; master weights and moments go on as they were"},
    {"runtime.bf16_products", ProductsText, kHarmless, "products are added up in another order"},
    {"runtime.sums", SumsText, kHarmless, "sums over ranks are added up in another order"},
    {"model.dropout", [](const Identity& run) { return absl::StrCat(run.model.dropout()); }, kHarmless,
     "losses from here on are with the new share"},
    {"model.initial_deviation", [](const Identity& run) { return Number(run.model.initial_deviation()); }, kHarmless,
     "the weights are the checkpoint's and not drawn again"},
    {"training.global_batch", [](const Identity& run) { return absl::StrCat(run.state.global_batch()); }, kHarmless,
     "steps after this one use that many samples"},
    {"training.steps", [](const Identity& run) { return absl::StrCat(run.state.steps()); }, kHarmless,
     "the learning-rate schedule is that of the new length"},
    {"training.seed", [](const Identity& run) { return absl::StrCat(run.state.seed()); }, kHarmless,
     "dropout differs from the run before"},
    {"training.optimizer", OptimizerText, kHarmless, "steps after this one follow the new values"},
    {"training.fine_tuning", FineTuningText, kHarmless,
     "steps after this one train what it says; what was not trained has no moments yet"},
    {"program", [](const Identity& run) { return run.state.program_version(); }, kHarmless,
     "the last bits of the numbers may differ"},
};

}  // namespace

TrainerState IdentityOf(const RunConfig& config, const RunData& data, const std::string& tokenizer) {
  const TrainingConfig& training = config.training();
  TrainerState state;
  state.set_seed(training.seed());
  state.set_data_seed(config.data().seed());
  *state.mutable_optimizer() = training.optimizer();
  *state.mutable_fine_tuning() = training.fine_tuning();
  state.set_steps(training.steps());
  state.set_global_batch(training.global_batch());
  Describe(data.train, state.mutable_train());
  Describe(data.held_out, state.mutable_held_out());
  state.set_tokenizer(tokenizer);
  state.set_precision(training.precision());
  state.set_program_version(VersionText());
  state.set_bf16_products(config.runtime().bf16_products());
  state.set_sums(config.runtime().sums());
  state.set_mask_documents(config.data().mask_documents());
  return state;
}

std::vector<Change> ChangesSince(const Identity& before, const Identity& now) {
  std::vector<Change> changes;
  for (const Row& row : kRows) {
    const std::string old_value = row.value(before), new_value = row.value(now);
    if (old_value == new_value || old_value.empty() || new_value.empty()) continue;
    changes.push_back({.name = row.name, .before = old_value, .now = new_value, .harmless = row.harmless,
                       .consequence = row.consequence});
  }
  return changes;
}

}  // namespace trefoil
