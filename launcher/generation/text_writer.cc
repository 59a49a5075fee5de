#include "launcher/generation/text_writer.h"

#include <algorithm>
#include <map>
#include <utility>

#include "data/tokens/text_stream.h"
#include "training/inference/stop_strings.h"

namespace trefoil {
namespace {

// Tokens before a text that say how it begins: whether with a space, or within a character.
constexpr size_t kBefore = 16;

struct Open {
  TextStream stream;
  StopStrings stop;
  WrittenText written;
};

std::vector<int32_t> LastOf(const std::vector<int32_t>& ids) {
  return {ids.end() - static_cast<ptrdiff_t>(std::min(ids.size(), kBefore)), ids.end()};
}

}  // namespace

WritingTimes WriteAsText(OpenTexts& texts, const Tokenizer& tokenizer, std::span<const TextToWrite> wanted,
                         const TextOptions& options,
                         const std::function<void(size_t text, const std::string& piece)>& on_piece,
                         const std::function<void(size_t text, const WrittenText& written)>& on_end) {
  std::map<size_t, Open> open;
  const auto open_of = [&](size_t text) -> Open& {
    const auto found = open.find(text);
    if (found != open.end()) return found->second;
    return open
        .emplace(text, Open{.stream = TextStream(tokenizer, LastOf(wanted[text].prompt)),
                            .stop = StopStrings(options.stop),
                            .written = {}})
        .first->second;
  };
  const auto give = [&](size_t text, Open& of, const std::string& piece) {
    of.written.text += piece;
    if (!piece.empty()) on_piece(text, piece);
  };
  const auto on_token = [&](size_t text, int32_t id) {
    Open& of = open_of(text);
    of.written.ids.push_back(id);
    give(text, of, of.stop.Add(of.stream.Add(id)));
    return !of.stop.stopped();
  };
  const auto end = [&](size_t text, TextEnd why) {
    Open& of = open_of(text);
    if (!of.stop.stopped()) give(text, of, of.stop.Add(of.stream.End()));
    of.written.end = of.stop.stopped() ? TextEnd::kStopped : why;
    if (!of.stop.stopped()) give(text, of, of.stop.End());
    on_end(text, of.written);
    open.erase(text);
  };
  return WriteTexts(texts, wanted, {.ends = options.ends, .vocabulary = tokenizer.vocabulary()}, on_token, end);
}

}  // namespace trefoil
