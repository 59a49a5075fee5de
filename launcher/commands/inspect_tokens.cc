#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "data/tokens/token_set.h"
#include "launcher/commands/inspect_parts.h"

namespace trefoil {
namespace {

constexpr int64_t kAnyId = int64_t{1} << 31;  // a vocabulary that has every id of 31 bits

absl::Status ShowDocument(const TokenFile& file, int64_t number, int64_t begin, int64_t length,
                          const std::optional<Tokenizer>& tokenizer, std::ostream& out) {
  std::vector<int32_t> ids(static_cast<size_t>(std::min<int64_t>(length, kSampleTokens + 1)));
  TREFOIL_RETURN_IF_ERROR(file.Read(begin, ids));
  InspectLine(out, absl::StrCat("document ", number),
              absl::StrCat(length, " tokens, of ", file.prefix(), " from token ", begin, " on"));
  const std::string numbers = BeginningOf(ids, std::nullopt), text = BeginningOf(ids, tokenizer);
  InspectLine(out, "", numbers);
  if (text != numbers) InspectLine(out, "", text);
  return absl::OkStatus();
}

absl::Status VerifyIds(const TokenSet& set, int64_t vocabulary, std::ostream& out) {
  constexpr int64_t kChunk = int64_t{1} << 18;
  int32_t largest = 0;
  std::vector<int32_t> ids;
  for (const TokenFile& file : set.files()) {
    for (int64_t at = 0; at < file.tokens(); at += static_cast<int64_t>(ids.size())) {
      ids.resize(static_cast<size_t>(std::min(kChunk, file.tokens() - at)));
      TREFOIL_RETURN_IF_ERROR(file.Read(at, ids));
      for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= vocabulary) {
          return absl::DataLossError(absl::StrCat(file.prefix(), ".bin: token ", at + static_cast<int64_t>(i),
                                                  " has id ", ids[i], "; ids are in [0, ", vocabulary, ")"));
        }
        largest = std::max(largest, ids[i]);
      }
    }
  }
  InspectLine(out, "whole", absl::StrCat("every token was read; the largest id is ", largest));
  return absl::OkStatus();
}

}  // namespace

absl::Status InspectTokenFiles(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& prefixes,
                               std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> matched, MatchTokenFiles(prefixes, fs));
  if (!matched.empty() && fs.Exists(matched.front() + ".json")) return InspectRecords(fs, options, prefixes, out);
  TREFOIL_ASSIGN_OR_RETURN(const TokenSet set, TokenSet::Open(prefixes, /*sequence_length=*/1, kAnyId, fs));
  const TokenFile& first = set.files().front();
  Lengths lengths;
  int64_t documents = 0;
  struct Found {
    const TokenFile* file;
    int64_t begin, length;
  };
  std::optional<Found> shown;
  for (const TokenFile& file : set.files()) {
    TREFOIL_RETURN_IF_ERROR(file.ForEachDocument(fs, [&](int64_t begin, int64_t length) {
      lengths.Add(length);
      if (documents++ == options.document) shown = {&file, begin, length};
    }));
  }
  InspectLine(out, "token files", set.files().size() == 1
                                      ? absl::StrCat(first.prefix(), ".bin, .idx")
                                      : absl::StrCat(set.files().size(), " pairs, ", first.prefix(), " to ",
                                                     set.files().back().prefix()));
  InspectLine(out, "tokens", absl::StrCat(set.tokens()));
  InspectLine(out, "documents", absl::StrCat(documents, ", ", lengths.Range()));
  PrintLengths(lengths, out);
  TREFOIL_ASSIGN_OR_RETURN(std::optional<Tokenizer> tokenizer, TokenizerOf(fs, options, first.prefix(), out));
  if (!shown) {
    return absl::InvalidArgumentError(absl::StrCat("--document: ", options.document, ", must be in [0, ", documents,
                                                   "), the documents there are; nearest legal: ",
                                                   options.document < 0 ? 0 : documents - 1));
  }
  TREFOIL_RETURN_IF_ERROR(ShowDocument(*shown->file, options.document, shown->begin, shown->length, tokenizer, out));
  if (!options.verify) return absl::OkStatus();
  return VerifyIds(set, tokenizer ? tokenizer->vocabulary() : kAnyId, out);
}

namespace {

std::string PieceOf(const Tokenizer& tokenizer, int32_t id) { return std::string(tokenizer.Piece(id)); }

std::string PiecesOf(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  return absl::StrJoin(ids, " ", [&](std::string* out, int32_t id) { *out += PieceOf(tokenizer, id); });
}

}  // namespace

absl::Status InspectTokenizer(FileSystem& fs, const InspectOptions& options, const std::string& path,
                              std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(fs, path));
  int64_t bytes = 0, symbols = 0, characters = 0, pieces = 0, nothing = 0;
  std::string symbol_names;
  std::vector<std::pair<int64_t, int>> longest;
  for (int id = 0; id < tokenizer.vocabulary(); ++id) {
    const PieceKind kind = tokenizer.KindOf(id);
    if (kind == PieceKind::kNone) {
      ++nothing;
    } else if (kind == PieceKind::kByte) {
      ++bytes;
    } else if (kind != PieceKind::kText) {
      constexpr int64_t kShown = 20;
      if (++symbols <= kShown) {
        absl::StrAppend(&symbol_names, symbol_names.empty() ? "" : ", ", id, " ", PieceOf(tokenizer, id));
      }
      if (symbols == kShown + 1) symbol_names += " ...";
    } else {
      const std::string text = tokenizer.Decode(std::span(&id, 1));
      const auto letters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
      ++(letters <= 1 ? characters : pieces);
      longest.emplace_back(-letters, id);
    }
  }
  std::sort(longest.begin(), longest.end());
  InspectLine(out, "tokenizer", path);
  InspectLine(out, "kind", tokenizer.Description());
  InspectLine(out, "vocabulary",
              absl::StrCat(tokenizer.vocabulary(), ": ", bytes, " bytes, ", characters, " characters, ", pieces,
                           " longer pieces, ", symbols, " symbols",
                           nothing > 0 ? absl::StrCat(", ", nothing, " ids without a token") : ""));
  InspectLine(out, "symbols", symbol_names);
  InspectLine(out, "end of text",
              absl::StrCat(tokenizer.end_of_text(), " ", PieceOf(tokenizer, tokenizer.end_of_text())));
  const std::vector<int32_t> before = tokenizer.before_text(), after = tokenizer.after_text();
  if (!before.empty() || !after.empty()) {
    InspectLine(out, "around", absl::StrCat(PiecesOf(tokenizer, before), before.empty() ? "" : " ", "TEXT",
                                            after.empty() ? "" : " ", PiecesOf(tokenizer, after)));
  }
  if (!tokenizer.files().chat_template.empty()) InspectLine(out, "chat", "with a template");
  InspectLine(out, "exact",
              tokenizer.exact() ? "yes: any text comes back as it was"
                                : "no: it normalises, so that decoded text may differ from what was encoded");
  std::string examples;
  for (size_t i = 0; i < std::min<size_t>(longest.size(), 8); ++i) {
    const int id = longest[i].second;
    absl::StrAppend(&examples, i == 0 ? "" : ", ", id, " ", QuotedText(tokenizer.Decode(std::span(&id, 1)), 60));
  }
  InspectLine(out, "longest", examples);
  if (options.text.empty()) {
    InspectLine(out, "more", "--text='...' encodes a text");
    return absl::OkStatus();
  }
  const std::vector<int32_t> ids = tokenizer.Encode(options.text);
  InspectLine(out, "text", absl::StrFormat("%d bytes, %d tokens, %.2f bytes a token", options.text.size(), ids.size(),
                                           static_cast<double>(options.text.size()) / std::max<size_t>(ids.size(), 1)));
  for (const int32_t id : ids) {
    const PieceKind kind = tokenizer.KindOf(id);
    const bool written =
        kind == PieceKind::kSymbol || kind == PieceKind::kUnknown || (kind == PieceKind::kText && !tokenizer.exact());
    out << absl::StrFormat("  %8d  %s\n", id,
                           QuotedText(written ? PieceOf(tokenizer, id) : tokenizer.Decode(std::span(&id, 1)), 60));
  }
  const std::string back = tokenizer.Decode(ids);
  if (back != options.text) InspectLine(out, "back", QuotedText(back, kSampleBytes));
  return absl::OkStatus();
}

}  // namespace trefoil
