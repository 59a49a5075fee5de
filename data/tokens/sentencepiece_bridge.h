// The SentencePiece library (Kudo & Richardson, EMNLP 2018) behind standard types only.
//
// Its public header declares an absl::string_view of its own, which no file that sees abseil can include; this pair of
// files sees no abseil. Everything else about tokenizing is in tokenizer.h: use that.
//
// Errors are messages, empty for none. Threads: const calls from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace trefoil {

class SentencePieceModel {
 public:
  enum class Kind { kText, kControl, kUnknown, kByte };

  SentencePieceModel();
  SentencePieceModel(SentencePieceModel&&) noexcept;
  SentencePieceModel& operator=(SentencePieceModel&&) noexcept;
  ~SentencePieceModel();

  // `serialized` is the content of a .model file.
  std::string Load(std::string_view serialized);
  // The same model with its option add_dummy_prefix, a space before each text, on or off.
  static std::string WithDummyPrefix(std::string_view serialized, bool on);
  // Trains on the sentences that `next` gives until it returns false. `options` are SentencePiece's own; the trainer
  // prints nothing. The content of a .model file goes to `serialized`.
  static std::string Train(const std::vector<std::pair<std::string, std::string>>& options,
                           std::function<bool(std::string*)> next, std::string* serialized);

  // Appends the ids of `text`.
  void Encode(std::string_view text, std::vector<int32_t>* ids) const;
  std::string Decode(const std::vector<int32_t>& ids) const;

  int size() const;
  const std::string& Piece(int id) const;
  Kind KindOf(int id) const;
  // The ids of the symbols that begin and end sentences, -1 where there is none.
  int begin_id() const;
  int end_id() const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace trefoil
