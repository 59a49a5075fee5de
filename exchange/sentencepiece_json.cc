#include "exchange/sentencepiece_json.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "exchange/sentencepiece.pb.h"

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;
using Piece = SentencePieceFile::Piece;

constexpr char kSpace[] = "\u2581";

// All pairs of pieces that make one, the best first, those of one score by their places in the file.
Json MergesOf(const SentencePieceFile& file) {
  std::unordered_map<std::string, int> ids;
  for (int id = 0; id < file.pieces_size(); ++id) {
    if (file.pieces(id).type() == Piece::NORMAL) ids.emplace(file.pieces(id).piece(), id);
  }
  std::vector<std::tuple<float, int, int, int>> pairs;  // - score of what they make; it, the left one, the right one
  for (const auto& [piece, id] : ids) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xc0) == 0x80) continue;  // within a character
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      pairs.emplace_back(-file.pieces(id).score(), id, left->second, right->second);
    }
  }
  std::sort(pairs.begin(), pairs.end());
  Json merges = Json::array();
  for (const auto& [score, id, left, right] : pairs) {
    merges.push_back(Json::array({file.pieces(left).piece(), file.pieces(right).piece()}));
  }
  return merges;
}

// The piece that begins texts, or else the one that ends them; -1: there is neither.
int FirstOf(const SentencePieceFile& file) {
  int ends = -1;
  for (int id = 0; id < file.pieces_size(); ++id) {
    if (file.pieces(id).type() != Piece::CONTROL) continue;
    if (file.pieces(id).piece() == file.trainer().begin_piece()) return id;
    if (file.pieces(id).piece() == file.trainer().end_piece()) ends = id;
  }
  return ends;
}

}  // namespace

absl::StatusOr<std::string> TokenizerJsonOf(const std::string& model, const std::string& name) {
  SentencePieceFile file;
  if (!file.ParseFromString(model) || file.pieces().empty()) {
    return absl::DataLossError(name + ": is no SentencePiece model");
  }
  if (file.trainer().kind() != SentencePieceFile::Trainer::BPE) {
    return absl::UnimplementedError(name +
                                    ": is no byte-pair encoding, of which alone a tokenizer.json can be made here");
  }
  if (!file.normalizer().precompiled_charsmap().empty() || file.normalizer().remove_extra_whitespaces()) {
    return absl::UnimplementedError(name + ": normalises text (" + file.normalizer().name() +
                                    "), which is not implemented");
  }
  nlohmann::json vocabulary = nlohmann::json::object();
  Json added = Json::array();
  std::string unknown;
  for (int id = 0; id < file.pieces_size(); ++id) {
    const Piece& piece = file.pieces(id);
    vocabulary[piece.piece()] = id;
    if (piece.type() == Piece::UNKNOWN) unknown = piece.piece();
    const bool symbol = piece.type() == Piece::CONTROL || piece.type() == Piece::UNKNOWN;
    if (!symbol && piece.type() != Piece::USER_DEFINED) continue;
    added.push_back({{"id", id},
                     {"content", piece.piece()},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", symbol}});
  }
  const bool prefix = file.normalizer().add_dummy_prefix();
  Json normalizers = Json::array(), decoders = Json::array();
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  decoders.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}});
  decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  // What a document begins behind (Tokenizer::before_text).
  Json processor = nullptr;
  if (const int first = FirstOf(file); first >= 0) {
    const std::string& symbol = file.pieces(first).piece();
    const Json before = {{"SpecialToken", {{"id", symbol}, {"type_id", 0}}}};
    const auto text = [](const char* which) { return Json{{"Sequence", {{"id", which}, {"type_id", 0}}}}; };
    processor = {{"type", "TemplateProcessing"},
                 {"single", Json::array({before, text("A")})},
                 {"pair", Json::array({before, text("A"), text("B")})},
                 {"special_tokens", {{symbol, {{"id", symbol}, {"ids", {first}}, {"tokens", {symbol}}}}}}};
  }
  const Json bpe = {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", unknown.empty() ? Json(nullptr) : Json(unknown)},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"fuse_unk", true},
                    {"byte_fallback", file.trainer().byte_fallback()},
                    {"ignore_merges", false},
                    {"vocab", vocabulary},
                    {"merges", MergesOf(file)}};
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added},
                          {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
                          {"pre_tokenizer", nullptr},
                          {"post_processor", processor},
                          {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
                          {"model", bpe}};
  return tokenizer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace trefoil
