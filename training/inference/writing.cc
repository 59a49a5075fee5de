#include "training/inference/writing.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

class Writer {
 public:
  Writer(OpenTexts& texts, std::span<const TextToWrite> wanted, const WritingOptions& options,
         const std::function<bool(size_t, int32_t)>& on_token, const std::function<void(size_t, TextEnd)>& on_end)
      : texts_(texts), wanted_(wanted), options_(options), on_token_(on_token), on_end_(on_end) {
    places_.resize(static_cast<size_t>(texts.texts()));
  }

  WritingTimes Run() {
    while (true) {
      const auto begin = Clock::now();
      const int64_t read = Admit();
      std::vector<OpenTexts::Tokens> tokens;
      std::vector<Place*> placed;
      for (size_t i = 0; i < places_.size(); ++i) {
        if (!places_[i].has_value()) continue;
        tokens.push_back({.text = static_cast<int64_t>(i), .ids = places_[i]->next});
        placed.push_back(&*places_[i]);
      }
      if (tokens.empty()) return times_;
      const Rows rows = texts_.Extend(tokens);
      for (size_t i = 0; i < placed.size(); ++i) Choose(rows[static_cast<int64_t>(i)], placed[i]);
      for (std::optional<Place>& place : places_) {
        if (place.has_value() && place->ended) place.reset();
      }
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      times_.prompt_tokens += read;
      (read > 0 ? times_.prompt_seconds : times_.written_seconds) += seconds;
      if (read == 0) times_.written_tokens += std::ssize(placed);
    }
  }

 private:
  // Of a text in hand.
  struct Place {
    size_t text;
    std::vector<int32_t> next;  // to be read
    int64_t written = 0;
    bool ended = false;
  };

  // Gives free places to texts that wait; the tokens of theirs to be read. One whose prompt is being read for another waits
  // for that.
  int64_t Admit() {
    int64_t read = 0;
    std::vector<const std::vector<int32_t>*> being_read;
    for (size_t i = 0; i < places_.size() && next_ < wanted_.size(); ++i) {
      if (places_[i].has_value()) continue;
      const TextToWrite& text = wanted_[next_];
      const auto same = [&](const auto* prompt) { return *prompt == text.prompt; };
      if (std::any_of(being_read.begin(), being_read.end(), same)) break;
      if (text.most_tokens < 1) {
        on_end_(next_++, TextEnd::kLimit);
        --i;
        continue;
      }
      const int64_t there = texts_.Begin(static_cast<int64_t>(i), text.prompt);
      places_[i] = Place{.text = next_++, .next = {text.prompt.begin() + there, text.prompt.end()}};
      being_read.push_back(&text.prompt);
      read += std::ssize(places_[i]->next);
    }
    return read;
  }

  void Choose(std::span<const float> row, Place* place) {
    const TextToWrite& text = wanted_[place->text];
    // A model may have room for more ids than there are.
    const size_t known = options_.vocabulary > 0 ? static_cast<size_t>(options_.vocabulary) : row.size();
    const int32_t id = ChooseToken(row.first(known), text.sampling, text.seed, static_cast<uint64_t>(place->written));
    ++place->written;
    const auto end = [&](TextEnd why) {
      place->ended = true;
      on_end_(place->text, why);
    };
    if (std::find(options_.ends.begin(), options_.ends.end(), id) != options_.ends.end()) return end(TextEnd::kEnd);
    if (!on_token_(place->text, id)) return end(TextEnd::kStopped);
    if (place->written == text.most_tokens) return end(TextEnd::kLimit);
    place->next = {id};
  }

  OpenTexts& texts_;
  const std::span<const TextToWrite> wanted_;
  const WritingOptions& options_;
  const std::function<bool(size_t, int32_t)>& on_token_;
  const std::function<void(size_t, TextEnd)>& on_end_;
  std::vector<std::optional<Place>> places_;
  size_t next_ = 0;
  WritingTimes times_;
};

}  // namespace

WritingTimes WriteTexts(OpenTexts& texts, std::span<const TextToWrite> wanted, const WritingOptions& options,
                        const std::function<bool(size_t text, int32_t id)>& on_token,
                        const std::function<void(size_t text, TextEnd end)>& on_end) {
  return Writer(texts, wanted, options, on_token, on_end).Run();
}

}  // namespace trefoil
