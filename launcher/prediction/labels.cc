// Classes and numbers of texts, and classes of their words.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "data/tasks/text_inputs.h"
#include "data/text/words.h"
#include "launcher/prediction/batches.h"
#include "launcher/prediction/lines.h"
#include "launcher/prediction/prediction.h"

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

class Labeller {
 public:
  Labeller(const PredictionJob& job, std::vector<Example> examples)
      : job_(job),
        kind_(job.task.kind()),
        length_(job.predictor.model().sequence_length()),
        names_(job.task, job.predictor.model().head() == ModelConfig::CLASSES ? job.predictor.model().classes() : 0),
        examples_(std::move(examples)) {}

  absl::StatusOr<Predictions> Run() {
    std::vector<int64_t> lengths;
    for (Example& example : examples_) {
      TREFOIL_RETURN_IF_ERROR(Encode(&example));
      lengths.push_back(Kept(LengthsOf(example), length_).whole());
    }
    NoteCuts();
    result_.lines.resize(examples_.size());
    TREFOIL_RETURN_IF_ERROR(InBatches("labelling", "tokens", lengths, job_.options.batch,
                                      [&](std::span<const size_t> numbers) { return Label(numbers); }));
    if (all_ > 0 && kind_ == TaskConfig::TEXT_VALUE) {
      result_.scores.push_back(
          absl::StrFormat("mean squared error %.6g of %d", error_ / static_cast<double>(all_), all_));
    } else if (all_ > 0) {
      result_.scores.push_back(Accuracy(right_, all_));
    }
    return std::move(result_);
  }

 private:
  static TextLengths LengthsOf(const Example& example) {
    return {.text = std::ssize(example.ids), .pair = std::ssize(example.pair_ids)};
  }

  absl::Status Encode(Example* example) {
    const RecordLine& record = example->record;
    if (kind_ == TaskConfig::TOKEN_CLASSES) {
      EncodeWordsOf(example);
    } else if (example->ids.empty()) {
      example->ids = job_.tokenizer->Encode(record.text);
      if (!record.text_pair.empty()) example->pair_ids = job_.tokenizer->Encode(record.text_pair);
    }
    const bool lost_pair = example->pair_ids.empty() && !record.text_pair.empty();
    if (!example->ids.empty() && !lost_pair) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(example->place, ": \"", lost_pair ? record.text_pair : record.text,
                                                   "\" has no token; this tokenizer leaves out all of it"));
  }

  // A text without words has those between its spaces.
  void EncodeWordsOf(Example* example) {
    RecordLine& record = example->record;
    if (record.words.empty()) {
      for (size_t end, begin = record.text.find_first_not_of(' '); begin != std::string::npos;
           begin = record.text.find_first_not_of(' ', end)) {
        end = std::min(record.text.find(' ', begin), record.text.size());
        record.words.push_back(record.text.substr(begin, end - begin));
        record.word_labels.emplace_back();
      }
    }
    if (example->word_ids.empty()) example->word_ids = EncodeWords(*job_.tokenizer, record.words);
    for (const auto& ids : example->word_ids) example->ids.insert(example->ids.end(), ids.begin(), ids.end());
  }

  void NoteCuts() {
    const auto is_cut = [&](const Example& example) { return Kept(LengthsOf(example), length_) != LengthsOf(example); };
    const auto cut = std::count_if(examples_.begin(), examples_.end(), is_cut);
    if (cut == 0) return;
    const Example& first = *std::find_if(examples_.begin(), examples_.end(), is_cut);
    result_.notes.push_back(absl::StrCat(cut, cut == 1 ? " text is" : " texts are", " cut to the ", length_,
                                         " tokens that the model reads, the first ", first.place));
  }

  absl::Status Label(std::span<const size_t> numbers) {
    std::vector<TextPair> texts;
    int64_t longest = 0;
    for (const size_t number : numbers) {
      const Example& example = examples_[number];
      texts.push_back({.text = example.ids, .pair = example.pair_ids});
      longest = std::max(longest, Kept(LengthsOf(example), length_).whole());
    }
    Batch batch = TextInputs(texts, EncoderTokens(job_.task.end_of_text(), job_.task.first_symbol()), longest);
    const bool of_tokens = kind_ == TaskConfig::TOKEN_CLASSES;
    if (!of_tokens) batch.places = HostTensor::Zeros(DType::kInt32, {batch.samples, 1});
    const Rows rows = job_.predictor.Outputs(batch);
    for (size_t i = 0; i < numbers.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      TREFOIL_ASSIGN_OR_RETURN(result_.lines[numbers[i]],
                               of_tokens ? OfWords(examples_[numbers[i]], rows, row * longest, longest - 2)
                               : kind_ == TaskConfig::TEXT_VALUE ? OfValue(examples_[numbers[i]], rows[row][0])
                                                                 : OfText(examples_[numbers[i]], rows[row]));
    }
    return absl::OkStatus();
  }

  // Of classes whose right one is known: whether the likeliest is it.
  absl::Status Count(const std::optional<Class>& right, int64_t found, const std::string& place) {
    if (!right) return absl::OkStatus();
    TREFOIL_ASSIGN_OR_RETURN(const int64_t id, names_.Find(Text(*right), place));
    ++all_;
    right_ += found == id ? 1 : 0;
    return absl::OkStatus();
  }

  static Json Begin(const RecordLine& record) {
    Json line = {{"input", record.text}};
    if (!record.text_pair.empty()) line["text_pair"] = record.text_pair;
    return line;
  }

  absl::StatusOr<std::string> OfText(const Example& example, std::span<const float> row) {
    const RecordLine& record = example.record;
    const std::vector<Choice> choices = Likeliest(row, job_.options.top, names_.size());
    TREFOIL_RETURN_IF_ERROR(Count(record.label, choices.front().id, example.place));
    if (!job_.options.json) return names_.Line(choices);
    Json line = Begin(record);
    line["predictions"] = names_.Json(choices);
    if (record.label) line["reference"] = Text(*record.label);
    return JsonText(line);
  }

  absl::StatusOr<std::string> OfValue(const Example& example, float value) {
    const RecordLine& record = example.record;
    if (record.label) {
      return absl::InvalidArgumentError(absl::StrCat(example.place, ": label ", Text(*record.label),
                                                     " is a class, but the model says a value: a number with a point"));
    }
    if (record.value) {
      ++all_;
      error_ += (double{value} - *record.value) * (double{value} - *record.value);
    }
    if (!job_.options.json) return absl::StrCat(value);
    Json line = Begin(record);
    line["predictions"] = Json::array({{{"value", value}}});
    if (record.value) line["reference"] = *record.value;
    return JsonText(line);
  }

  // What is said of a word is said of its first token (as in training); of one that was cut off, or has none, nothing.
  absl::StatusOr<std::string> OfWords(const Example& example, const Rows& rows, int64_t first, int64_t room) {
    const RecordLine& record = example.record;
    Json line = Begin(record), references;
    line["words"] = record.words;
    line["predictions"] = Json::array();
    std::string text;
    int64_t token = 0;
    for (size_t word = 0; word < record.words.size(); ++word) {
      const int64_t at = token;
      token += std::ssize(example.word_ids[word]);
      std::vector<Choice> choices;
      if (at < token && at < room) {
        choices = Likeliest(rows[first + 1 + at], job_.options.top, names_.size());
        TREFOIL_RETURN_IF_ERROR(Count(record.word_labels[word], choices.front().id, example.place));
      }
      line["predictions"].push_back(names_.Json(choices));
      references.push_back(record.word_labels[word] ? Json(Text(*record.word_labels[word])) : Json());
      absl::StrAppend(&text, OneLine(record.words[word]), "\t", names_.Line(choices), "\n");
    }
    if (!job_.options.json) return text;
    const auto known = [](const auto& label) { return label.has_value(); };
    if (std::any_of(record.word_labels.begin(), record.word_labels.end(), known)) line["reference"] = references;
    return JsonText(line);
  }

  const PredictionJob& job_;
  const TaskConfig::Kind kind_;
  const int64_t length_;
  const ClassNames names_;
  std::vector<Example> examples_;
  Predictions result_;
  int64_t all_ = 0, right_ = 0;  // whose right answer is known
  double error_ = 0;             // sum of their squared errors
};

}  // namespace

absl::StatusOr<Predictions> PredictLabels(const PredictionJob& job, std::vector<Example> examples) {
  return Labeller(job, std::move(examples)).Run();
}

}  // namespace trefoil
