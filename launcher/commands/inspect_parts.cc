#include "launcher/commands/inspect_parts.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

constexpr size_t kLabelWidth = 13;
constexpr size_t kNamesShown = 20;
constexpr int kBar = 30;

}  // namespace

void InspectLine(std::ostream& out, const std::string& label, const std::string& text) {
  out << label << std::string(kLabelWidth - std::min(kLabelWidth - 1, label.size()), ' ') << text << "\n";
}

std::string QuotedText(const std::string& text, size_t most) {
  std::string quoted = "\"";
  std::string_view rest = std::string_view(text).substr(0, Utf8Cut(text, std::min(text.size(), most)));
  while (!rest.empty()) {
    const size_t length = Utf8Length(rest);
    const auto byte = static_cast<unsigned char>(rest[0]);
    if (rest[0] == '\n') {
      quoted += "\\n";
    } else if (rest[0] == '"' || rest[0] == '\\') {
      quoted += {'\\', rest[0]};
    } else if (length == 0 || byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", byte);
    } else {
      quoted += rest.substr(0, length);
    }
    rest.remove_prefix(std::max<size_t>(length, 1));
  }
  return quoted + (most < text.size() ? "\" ..." : "\"");
}

void Lengths::Add(int64_t length) {
  size_t bin = 0;
  for (int64_t rest = length; rest > 0; rest /= 10) ++bin;
  ++counts[bin];
  shortest = shortest < 0 ? length : std::min(shortest, length);
  longest = std::max(longest, length);
  sum += length;
  ++number;
}

std::string Lengths::Range() const {
  return absl::StrFormat("of %d to %d tokens, %.1f on average", shortest, longest,
                         static_cast<double>(sum) / static_cast<double>(number));
}

void PrintLengths(const Lengths& lengths, std::ostream& out) {
  const auto [first, end] = [&] {
    size_t a = 0, b = lengths.counts.size();
    while (lengths.counts[a] == 0) ++a;
    while (lengths.counts[b - 1] == 0) --b;
    return std::pair(a, b);
  }();
  const int64_t most = *std::max_element(lengths.counts.begin(), lengths.counts.end());
  int64_t from = 0;
  for (size_t bin = 0; bin < end; ++bin) {
    const int64_t to = bin == 0 ? 0 : from == 0 ? 9 : from * 10 - 1;
    if (bin >= first) {
      const auto bar = static_cast<size_t>((lengths.counts[bin] * kBar + most - 1) / most);
      out << absl::StrFormat("  %12s  %-*s %d\n", from == to ? absl::StrCat(from) : absl::StrCat(from, "-", to), kBar,
                             std::string(bar, '#'), lengths.counts[bin]);
    }
    from = bin == 0 ? 1 : from * 10;
  }
}

void PrintCounts(const std::string& label, const std::vector<std::string>& names, std::span<const int64_t> counts,
                 std::ostream& out) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = i == 0 ? label : "";
    if (i == kNamesShown && names.size() > kNamesShown + 1) {
      const auto [fewest, most] = std::minmax_element(counts.begin(), counts.end());
      InspectLine(out, name, absl::StrFormat("... %d more; of all, the rarest occurs %d times, the commonest %d times",
                                             names.size() - i, *fewest, *most));
      return;
    }
    InspectLine(out, name, absl::StrFormat("%-4d %-20s %d", i, names[i], counts[i]));
  }
}

absl::StatusOr<std::optional<Tokenizer>> TokenizerOf(FileSystem& fs, const InspectOptions& options,
                                                     const std::string& prefix, std::ostream& out) {
  std::string path = options.tokenizer;
  if (path.empty()) {
    path = TokenizerIn(fs, FolderOf(prefix));
    if (path.empty()) {
      InspectLine(out, "tokenizer", "none beside the files, so that the sample is ids: --with_tokenizer names one");
      return std::optional<Tokenizer>();
    }
  }
  TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(fs, path));
  InspectLine(out, "tokenizer", absl::StrCat(path, ", vocabulary ", tokenizer.vocabulary()));
  return std::optional<Tokenizer>(std::move(tokenizer));
}

std::string BeginningOf(std::span<const int32_t> ids, const std::optional<Tokenizer>& tokenizer) {
  const bool all = ids.size() <= kSampleTokens;
  ids = ids.first(std::min(ids.size(), kSampleTokens));
  for (const int32_t id : ids) {
    if (!tokenizer || id < 0 || id >= tokenizer->vocabulary()) {
      return absl::StrCat(absl::StrJoin(ids, " "), all ? "" : " ...");
    }
  }
  const std::string text = QuotedText(tokenizer->Decode(ids), kSampleBytes);
  return text + (all || text.ends_with(" ...") ? "" : " ...");
}

}  // namespace trefoil
