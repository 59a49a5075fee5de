// Texts that a model writes.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>

#include "data/text/conversation.h"
#include "data/text/text_scores.h"
#include "launcher/prediction/batches.h"
#include "launcher/prediction/lines.h"
#include "launcher/prediction/prediction.h"
#include "launcher/prediction/symbols.h"
#include "training/inference/search.h"

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;
using Texts = std::vector<std::vector<Hypothesis>>;

bool IsOfPairs(TaskConfig::Kind kind) { return kind == TaskConfig::TRANSLATION || kind == TaskConfig::SPAN_CORRUPTION; }

class Writer {
 public:
  Writer(const PredictionJob& job, std::vector<Example> examples)
      : job_(job),
        tokenizer_(*job.tokenizer),
        symbols_(SymbolsInTexts(job.task)),
        translates_(IsOfPairs(job.task.kind())),
        examples_(std::move(examples)) {}

  absl::StatusOr<Predictions> Run() {
    for (Example& example : examples_) TREFOIL_RETURN_IF_ERROR(Encode(&example));
    Cut();
    std::vector<int64_t> lengths;
    for (const Example& example : examples_) lengths.push_back(static_cast<int64_t>(example.ids.size()));
    found_.resize(examples_.size());
    TREFOIL_RETURN_IF_ERROR(InBatches(translates_ ? "translating" : "writing", "tokens", lengths, job_.options.batch,
                                      [&](std::span<const size_t> numbers) {
                                        Write(numbers);
                                        return absl::OkStatus();
                                      }));
    for (size_t i = 0; i < examples_.size(); ++i) {
      result_.lines.push_back(job_.options.json ? JsonLine(i) : PlainLines(i));
    }
    Score();
    return std::move(result_);
  }

 private:
  absl::Status Encode(Example* example) {
    if (!example->ids.empty()) return absl::OkStatus();
    RecordLine& record = example->record;
    std::vector<int32_t>& ids = example->ids;
    if (job_.task.kind() == TaskConfig::ANSWERS) {
      EncodeConversation(&record, &ids);
      return absl::OkStatus();
    }
    ids = EncodeWithSymbols(tokenizer_, record.text, symbols_);
    if (ids.empty()) {
      return absl::InvalidArgumentError(example->place + ": \"" + record.text +
                                        "\" has no token; this tokenizer leaves out " + "all of it");
    }
    if (!translates_) {
      const std::vector<int32_t> before = tokenizer_.before_text();
      ids.insert(ids.begin(), before.begin(), before.end());
    }
    return absl::OkStatus();
  }

  // All but a last answer, which is what is to come. A text alone is what a user says.
  void EncodeConversation(RecordLine* record, std::vector<int32_t>* ids) {
    std::vector<Message>& messages = record->messages;
    if (messages.empty()) messages.push_back({.role = "user", .content = record->text});
    if (messages.size() > 1 && messages.back().role == Roles().back()) {
      record->text_pair = messages.back().content;
      messages.pop_back();
    }
    std::vector<int32_t> unused;
    for (const Message& message : messages) AppendMessage(tokenizer_, message, ids, &unused);
    AppendPrompt(tokenizer_, ids);
  }

  // What is more than the model can read: an encoder is not given the rest, of what goes on the last tokens count.
  void Cut() {
    const auto most = static_cast<size_t>(job_.predictor.model().sequence_length() - (translates_ ? 1 : 0));
    int64_t cut = 0;
    std::string first;
    for (Example& example : examples_) {
      if (example.ids.size() <= most) continue;
      if (cut++ == 0) first = absl::StrCat(example.place, ", which has ", example.ids.size());
      if (translates_) example.ids.resize(most);
    }
    if (cut == 0) return;
    result_.notes.push_back(absl::StrCat(cut, cut == 1 ? " text is" : " texts are", " cut to the ",
                                         translates_ ? "" : "last ", most, " tokens that the model reads, the first ",
                                         first));
  }

  void Write(std::span<const size_t> numbers) {
    std::vector<Tokens> texts;
    for (const size_t number : numbers) texts.push_back(examples_[number].ids);
    const PredictionOptions& options = job_.options;
    BeamOptions beam = {.beam = options.beam,
                        .top = options.top,
                        .length_penalty = options.length_penalty,
                        .end = tokenizer_.end_of_text(),
                        .vocabulary = tokenizer_.vocabulary()};
    for (const auto& [name, id] : symbols_) beam.vocabulary = std::max<int64_t>(beam.vocabulary, id + 1);
    if (!translates_) beam.at_limit = BeamOptions::AtLimit::kIsCut;
    const Texts found = translates_ ? Translate(job_.predictor, texts, beam, options.tokens)
                                    : Continue(job_.predictor, texts, beam, options.tokens);
    for (size_t i = 0; i < numbers.size(); ++i) found_[numbers[i]] = found[i];
  }

  std::string TextOf(const Hypothesis& hypothesis) const {
    return DecodeWithSymbols(tokenizer_, hypothesis.ids, symbols_);
  }

  std::string PlainLines(size_t i) const {
    if (job_.options.top == 1) return found_[i].empty() ? "" : OneLine(TextOf(found_[i].front()));
    std::string lines;
    for (const Hypothesis& hypothesis : found_[i]) {
      absl::StrAppendFormat(&lines, "%s%d\t%.4f\t%s", lines.empty() ? "" : "\n", i + 1, hypothesis.score,
                            OneLine(TextOf(hypothesis)));
    }
    return lines;
  }

  std::string JsonLine(size_t i) const {
    const RecordLine& record = examples_[i].record;
    Json line = {{"input", record.text}};
    line["predictions"] = Json::array();
    for (const Hypothesis& hypothesis : found_[i]) {
      line["predictions"].push_back({{"text", TextOf(hypothesis)},
                                     {"score", hypothesis.score},
                                     {"log_probability", hypothesis.log_probability},
                                     {"ended", hypothesis.ended}});
    }
    if (!record.text_pair.empty()) line["reference"] = record.text_pair;
    return JsonText(line);
  }

  void Score() {
    std::vector<std::string> texts, references;
    for (size_t i = 0; i < examples_.size(); ++i) {
      if (examples_[i].record.text_pair.empty()) continue;
      texts.push_back(found_[i].empty() ? "" : TextOf(found_[i].front()));
      references.push_back(examples_[i].record.text_pair);
    }
    if (texts.empty()) return;
    const BleuScore bleu = CorpusBleu(texts, references);
    result_.scores.push_back(absl::StrFormat(
        "BLEU   %.2f = %.1f/%.1f/%.1f/%.1f, brevity penalty %.3f, %d tokens for %d, %d texts; %s", bleu.score,
        bleu.precisions[0], bleu.precisions[1], bleu.precisions[2], bleu.precisions[3], bleu.brevity_penalty,
        bleu.hypothesis_tokens, bleu.reference_tokens, texts.size(), kBleuSignature));
    result_.scores.push_back(absl::StrFormat("chrF2  %.2f; %s", CorpusChrf(texts, references), kChrfSignature));
  }

  const PredictionJob& job_;
  Tokenizer& tokenizer_;
  const TextSymbols symbols_;
  const bool translates_;
  std::vector<Example> examples_;
  Texts found_;
  Predictions result_;
};

}  // namespace

absl::StatusOr<Predictions> PredictWritten(const PredictionJob& job, std::vector<Example> examples) {
  return Writer(job, std::move(examples)).Run();
}

}  // namespace trefoil
