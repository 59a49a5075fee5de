#include "data/tokens/sentencepiece_bridge.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

namespace trefoil {
namespace {

std::string Message(const sentencepiece::util::Status& status) {
  if (status.ok()) return "";
  const std::string message = status.error_message();
  return message.empty() ? "unknown error" : message;
}

class FunctionIterator : public sentencepiece::SentenceIterator {
 public:
  explicit FunctionIterator(std::function<bool(std::string*)> next) : next_(std::move(next)) { Next(); }
  bool done() const override { return done_; }
  void Next() override { done_ = !next_(&value_); }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::function<bool(std::string*)> next_;
  std::string value_;
  bool done_ = false;
};

}  // namespace

SentencePieceModel::SentencePieceModel() : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
SentencePieceModel::SentencePieceModel(SentencePieceModel&&) noexcept = default;
SentencePieceModel& SentencePieceModel::operator=(SentencePieceModel&&) noexcept = default;
SentencePieceModel::~SentencePieceModel() = default;

std::string SentencePieceModel::Load(std::string_view serialized) {
  return Message(processor_->LoadFromSerializedProto(serialized));
}

// A model file is a protobuf message, and what is appended to one is merged into it: here NormalizerSpec (field 3 of
// ModelProto) with add_dummy_prefix (its field 3).
std::string SentencePieceModel::WithDummyPrefix(std::string_view serialized, bool on) {
  std::string changed(serialized);
  changed += {'\x1a', '\x02', '\x18', on ? '\x01' : '\x00'};
  return changed;
}

std::string SentencePieceModel::Train(const std::vector<std::pair<std::string, std::string>>& options,
                                      std::function<bool(std::string*)> next, std::string* serialized) {
  std::unordered_map<std::string, std::string> arguments(options.begin(), options.end());
  arguments["minloglevel"] = "3";
  FunctionIterator sentences(std::move(next));
  return Message(sentencepiece::SentencePieceTrainer::Train(arguments, &sentences, serialized));
}

void SentencePieceModel::Encode(std::string_view text, std::vector<int32_t>* ids) const {
  std::vector<int> encoded;
  processor_->Encode(text, &encoded).IgnoreError();  // fails only when no model is loaded
  ids->insert(ids->end(), encoded.begin(), encoded.end());
}

std::string SentencePieceModel::Decode(const std::vector<int32_t>& ids) const {
  std::string text;
  processor_->Decode(std::vector<int>(ids.begin(), ids.end()), &text).IgnoreError();
  return text;
}

int SentencePieceModel::size() const { return processor_->GetPieceSize(); }

const std::string& SentencePieceModel::Piece(int id) const { return processor_->IdToPiece(id); }

SentencePieceModel::Kind SentencePieceModel::KindOf(int id) const {
  if (processor_->IsByte(id)) return Kind::kByte;
  if (processor_->IsControl(id)) return Kind::kControl;
  if (processor_->IsUnknown(id)) return Kind::kUnknown;
  return Kind::kText;
}

int SentencePieceModel::begin_id() const { return processor_->bos_id(); }
int SentencePieceModel::end_id() const { return processor_->eos_id(); }

}  // namespace trefoil
