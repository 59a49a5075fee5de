// What `trefoil inspect` says of each kind of thing (launcher/commands/inspect.h). Internal to it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"
#include "launcher/commands/inspect.h"

namespace trefoil {

// "step         600" and the like: a label and a text in columns.
void InspectLine(std::ostream& out, const std::string& label, const std::string& text);
// A text on one line, in quotes, at most `most` bytes of it: newlines as \n, what is not UTF-8 as \xHH.
std::string QuotedText(const std::string& text, size_t most);
inline constexpr size_t kSampleBytes = 300;

// Lengths of texts by powers of ten: of 0 tokens, 1 to 9, 10 to 99 ...
struct Lengths {
  std::array<int64_t, 20> counts = {};
  int64_t shortest = -1, longest = 0, sum = 0, number = 0;

  void Add(int64_t length);
  // "of 3 to 120 tokens, 17.4 on average"
  std::string Range() const;
};
void PrintLengths(const Lengths& lengths, std::ostream& out);

// How often each name occurs: id, name, count, a row each; of many names the first.
void PrintCounts(const std::string& label, const std::vector<std::string>& names, std::span<const int64_t> counts,
                 std::ostream& out);

// options.tokenizer, or the tokenizer beside the token files of `prefix`; none is said.
absl::StatusOr<std::optional<Tokenizer>> TokenizerOf(FileSystem& fs, const InspectOptions& options,
                                                     const std::string& prefix, std::ostream& out);
// The beginning of a text, kSampleTokens of it: quoted where there is a tokenizer that has all its ids, else the ids.
inline constexpr size_t kSampleTokens = 64;
std::string BeginningOf(std::span<const int32_t> ids, const std::optional<Tokenizer>& tokenizer);

// `folder`: of one checkpoint.
absl::Status InspectCheckpoint(FileSystem& fs, const InspectOptions& options, const std::string& folder,
                               std::ostream& out);
// `prefixes`: as in TokenSet::Open. Those of records are told by their description.
absl::Status InspectTokenFiles(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& prefixes,
                               std::ostream& out);
absl::Status InspectRecords(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& prefixes,
                            std::ostream& out);
// `globs`: as in ImageSet::Open.
absl::Status InspectImages(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& globs,
                           std::ostream& out);
absl::Status InspectTokenizer(FileSystem& fs, const InspectOptions& options, const std::string& path, std::ostream& out);

}  // namespace trefoil
