// Pieces of text that were masked.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>

#include "data/tasks/text_inputs.h"
#include "launcher/prediction/batches.h"
#include "launcher/prediction/lines.h"
#include "launcher/prediction/prediction.h"
#include "launcher/prediction/symbols.h"

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

class Filler {
 public:
  Filler(const PredictionJob& job, std::vector<Example> examples)
      : job_(job),
        special_(EncoderTokens(job.task.end_of_text(), job.task.first_symbol())),
        examples_(std::move(examples)) {}

  absl::StatusOr<Predictions> Run() {
    std::vector<int64_t> lengths;
    for (Example& example : examples_) {
      TREFOIL_RETURN_IF_ERROR(Encode(&example));
      lengths.push_back(std::ssize(example.ids) + 2);
    }
    result_.lines.resize(examples_.size());
    TREFOIL_RETURN_IF_ERROR(
        InBatches("filling", "tokens", lengths, job_.options.batch, [&](std::span<const size_t> numbers) {
          Fill(numbers);
          return absl::OkStatus();
        }));
    return std::move(result_);
  }

 private:
  absl::Status Encode(Example* example) const {
    const std::string& text = example->record.text;
    if (example->ids.empty()) example->ids = EncodeWithSymbols(*job_.tokenizer, text, SymbolsInTexts(job_.task));
    const auto most = job_.predictor.model().sequence_length() - 2;
    if (std::ssize(example->ids) > most) {
      return absl::InvalidArgumentError(absl::StrCat(example->place, ": has ", example->ids.size(),
                                                     " tokens, more than the model reads; nearest legal: ", most));
    }
    if (!MasksOf(*example).empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(example->place, ": \"", text, "\" has no [MASK]; put one where a piece is to be found"));
  }

  // Where in the input.
  std::vector<int32_t> MasksOf(const Example& example) const {
    std::vector<int32_t> places;
    for (size_t i = 0; i < example.ids.size(); ++i) {
      if (example.ids[i] == special_.mask) places.push_back(static_cast<int32_t>(i) + 1);
    }
    return places;
  }

  void Fill(std::span<const size_t> numbers) {
    std::vector<TextPair> texts;
    std::vector<std::vector<int32_t>> masks;
    size_t longest = 0, most = 0;
    for (const size_t number : numbers) {
      texts.push_back({.text = examples_[number].ids, .pair = {}});
      masks.push_back(MasksOf(examples_[number]));
      longest = std::max(longest, examples_[number].ids.size() + 2);
      most = std::max(most, masks.back().size());
    }
    Batch batch = TextInputs(texts, special_, static_cast<int64_t>(longest));
    batch.places = HostTensor::Zeros(DType::kInt32, {batch.samples, static_cast<int64_t>(most)});
    for (size_t i = 0; i < masks.size(); ++i) {
      std::copy(masks[i].begin(), masks[i].end(),
                batch.places.values<int32_t>().begin() + static_cast<ptrdiff_t>(i * most));
    }
    const Rows rows = job_.predictor.Outputs(batch);
    for (size_t i = 0; i < numbers.size(); ++i) {
      std::vector<std::vector<Choice>> choices;
      for (size_t mask = 0; mask < masks[i].size(); ++mask) {
        choices.push_back(
            Likeliest(rows[static_cast<int64_t>(i * most + mask)], job_.options.top, job_.tokenizer->vocabulary()));
      }
      result_.lines[numbers[i]] = Line(examples_[numbers[i]], masks[i], choices);
    }
  }

  std::string Line(const Example& example, const std::vector<int32_t>& masks,
                   const std::vector<std::vector<Choice>>& choices) const {
    const Tokenizer& tokenizer = *job_.tokenizer;
    std::vector<int32_t> filled = example.ids;
    Json predictions = Json::array();
    std::string pieces;
    for (size_t mask = 0; mask < masks.size(); ++mask) {
      filled[static_cast<size_t>(masks[mask]) - 1] = static_cast<int32_t>(choices[mask].front().id);
      Json of_mask = Json::array();
      for (const Choice& choice : choices[mask]) {
        const auto id = static_cast<int32_t>(choice.id);
        const std::string piece = tokenizer.Decode(std::span(&id, 1));
        of_mask.push_back({{"text", piece}, {"probability", choice.probability}});
        absl::StrAppendFormat(&pieces, "\t%s\t%.4f", OneLine(piece), choice.probability);
      }
      predictions.push_back(std::move(of_mask));
    }
    const std::string text = tokenizer.Decode(filled);
    if (!job_.options.json) return OneLine(text) + pieces;
    return JsonText({{"input", example.record.text}, {"filled", text}, {"predictions", predictions}});
  }

  const PredictionJob& job_;
  const SpecialTokens special_;
  std::vector<Example> examples_;
  Predictions result_;
};

}  // namespace

absl::StatusOr<Predictions> PredictMasks(const PredictionJob& job, std::vector<Example> examples) {
  return Filler(job, std::move(examples)).Run();
}

}  // namespace trefoil
