#include "checkpoint/streams.h"

#include <glog/logging.h>

#include <algorithm>
#include <memory>

#include "runtime/tensor.h"

namespace trefoil {
namespace {

constexpr int64_t kBlock = 4 << 20;
constexpr int kTag = 0;

// A place for one block.
class Block {
 public:
  Tensor Of(int64_t bytes) {
    if (memory_ == nullptr) memory_ = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(kBlock));
    Shape shape;
    shape.push_back(bytes);
    return Tensor(memory_, memory_->data(), DType::kFloat8E4M3, shape);  // a byte an element
  }
  std::span<std::byte> bytes(int64_t count) const { return std::span(*memory_).first(static_cast<size_t>(count)); }

 private:
  std::shared_ptr<std::vector<std::byte>> memory_;
};

// The blocks of a rank's streams with one peer, one after the other.
class Blocks {
 public:
  Blocks(const std::vector<Stream>& streams, int peer) {
    for (const Stream& stream : streams) {
      if (stream.peer == peer && stream.bytes > 0) streams_.push_back(&stream);
    }
  }
  bool done() const { return number_ == streams_.size(); }
  const Stream& stream() const { return *streams_[number_]; }
  int64_t size() const { return std::min(kBlock, stream().bytes - at_); }
  void Advance() {
    at_ += size();
    if (at_ < stream().bytes) return;
    at_ = 0;
    ++number_;
  }

 private:
  std::vector<const Stream*> streams_;
  size_t number_ = 0;
  int64_t at_ = 0;
};

}  // namespace

void ExchangeStreams(Group& group, const std::vector<Stream>& sent, const std::vector<Stream>& received) {
  Block leaving, coming;
  for (int distance = 1; distance < group.size(); ++distance) {
    const int to = (group.rank() + distance) % group.size();
    const int from = (group.rank() - distance + group.size()) % group.size();
    Blocks out(sent, to), in(received, from);
    while (!out.done() || !in.done()) {
      const bool sends = !out.done();
      if (sends) {
        const Tensor block = leaving.Of(out.size());
        out.stream().next(leaving.bytes(out.size()));
        group.Send(block, to, kTag);
        out.Advance();
      }
      if (!in.done()) {
        group.Receive(coming.Of(in.size()), from, kTag);
        in.stream().next(coming.bytes(in.size()));
        in.Advance();
      }
      if (sends) group.FinishSend(to, kTag);
    }
  }
}

}  // namespace trefoil
