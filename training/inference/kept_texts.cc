#include "training/inference/kept_texts.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "model/families/recipe.h"

namespace trefoil {

bool KeptTexts::Serves(const ModelConfig& model) {
  const Recipe recipe = RecipeOf(model);
  const bool placed = recipe.positions == Recipe::Positions::kRotary || recipe.positions == Recipe::Positions::kLearned ||
                      recipe.positions == Recipe::Positions::kNone;
  return recipe.structure == Recipe::Structure::kDecoder && model.head() == ModelConfig::TOKENS && placed;
}

int64_t KeptTexts::Bytes(const ModelConfig& model, const InferenceLayout& layout, int64_t texts, int64_t capacity) {
  const int64_t columns = int64_t{2} * model.kv_heads() / layout.tensor * model.head_dim();
  const int64_t layers = (model.layers() + layout.pipeline - 1) / layout.pipeline;
  return layers * texts * capacity * columns * static_cast<int64_t>(SizeOf(WorkingDType(layout.precision)));
}

KeptTexts::KeptTexts(Predictor& predictor, int64_t texts, int64_t capacity)
    : predictor_(predictor),
      cache_(predictor.device(), texts, capacity),
      lengths_(static_cast<size_t>(texts)) {
  CHECK(Serves(predictor.model()));
  CHECK_LE(capacity, predictor.model().sequence_length());
  // Pieces are of many sizes.
  predictor.device().arena().ServeSmaller();
}

std::vector<KeptTexts::Piece> KeptTexts::Cut(std::span<const Tokens> tokens) const {
  std::vector<Piece> pieces;
  std::vector<int64_t> lengths = lengths_;
  for (const Tokens& each : tokens) {
    std::span<const int32_t> left = each.ids;
    CHECK(!left.empty());
    while (!left.empty()) {
      if (pieces.empty() || std::ssize(pieces.back().ids) == kPieceTokens) pieces.emplace_back();
      Piece& piece = pieces.back();
      const auto count = std::min(std::ssize(left), kPieceTokens - std::ssize(piece.ids));
      int64_t& length = lengths.at(static_cast<size_t>(each.text));
      piece.parts.push_back({.text = each.text, .first = length, .tokens = count});
      piece.ids.insert(piece.ids.end(), left.begin(), left.begin() + count);
      left = left.subspan(static_cast<size_t>(count));
      length += count;
      piece.ends.push_back(left.empty());
    }
  }
  return pieces;
}

template <typename Use>
void KeptTexts::Run(const Piece& piece, const Use& use) {
  const int64_t rows = std::ssize(piece.ids);
  const Continuation continuation = {.cache = cache_, .parts = piece.parts};
  MicroBatch batch = {.samples = 1, .training = false, .input = {.tokens = rows, .length = rows}};
  batch.continuation = &continuation;
  if (predictor_.has_first_stage()) {
    std::vector<int32_t> positions;
    for (const Continuation::Part& part : piece.parts) {
      for (int64_t t = 0; t < part.tokens; ++t) positions.push_back(static_cast<int32_t>(part.first + t));
    }
    batch.input.ids = predictor_.UploadIds(piece.ids);
    batch.input.positions = predictor_.UploadIds(positions);
  }
  use(batch, predictor_.BeforeHead(batch));
  for (const Continuation::Part& part : piece.parts) lengths_[static_cast<size_t>(part.text)] += part.tokens;
}

Rows KeptTexts::Extend(std::span<const Tokens> tokens) {
  Rows result;
  for (const Piece& piece : Cut(tokens)) {
    std::vector<int32_t> last;
    int64_t row = 0;
    for (size_t i = 0; i < piece.parts.size(); ++i) {
      row += piece.parts[i].tokens;
      if (piece.ends[i]) last.push_back(static_cast<int32_t>(row - 1));
    }
    Run(piece, [&](const MicroBatch& batch, const Tensor& before_head) {
      if (last.empty()) return;
      Rows next = predictor_.NextOf(batch, before_head, last);
      result.columns = next.columns;
      if (result.values.empty()) return std::swap(result.values, next.values);
      result.values.insert(result.values.end(), next.values.begin(), next.values.end());
    });
  }
  return result;
}

std::vector<TokenScore> KeptTexts::Score(std::span<const Tokens> tokens,
                                         std::span<const std::span<const int32_t>> targets) {
  CHECK_EQ(tokens.size(), targets.size());
  std::vector<int32_t> all;
  for (size_t i = 0; i < tokens.size(); ++i) {
    CHECK_EQ(tokens[i].ids.size(), targets[i].size());
    all.insert(all.end(), targets[i].begin(), targets[i].end());
  }
  std::vector<TokenScore> scores;
  for (const Piece& piece : Cut(tokens)) {
    const auto first = all.begin() + std::ssize(scores);
    const std::vector<int32_t> of_piece(first, first + std::ssize(piece.ids));
    Run(piece, [&](const MicroBatch& batch, const Tensor& before_head) {
      const Tensor on_device = predictor_.has_head() ? predictor_.UploadIds(of_piece) : Tensor();
      const std::vector<TokenScore> found = predictor_.ScoreOf(batch, before_head, on_device);
      scores.insert(scores.end(), found.begin(), found.end());
    });
  }
  return scores;
}

void KeptTexts::Truncate(int64_t text, int64_t length) {
  int64_t& now = lengths_.at(static_cast<size_t>(text));
  CHECK(length >= 0 && length <= now);
  now = length;
}

void KeptTexts::Copy(int64_t from, int64_t to) {
  const int64_t tokens = lengths_.at(static_cast<size_t>(from));
  cache_.Copy(from, to, tokens);
  lengths_.at(static_cast<size_t>(to)) = tokens;
}

}  // namespace trefoil
