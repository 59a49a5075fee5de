#include "parallel/collectives/point_to_point_group.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "parallel/collectives/binomial_tree.h"
#include "parallel/collectives/joined_texts.h"

namespace trefoil {
namespace {

constexpr int kFirstUserTag = 1;

}  // namespace

PointToPointGroup::PointToPointGroup(Membership membership, Device& device, std::unique_ptr<Transport> transport,
                                     std::optional<SumSegments> segments)
    : Group(std::move(membership)),
      device_(device),
      transport_(std::move(transport)),
      segments_(segments.value_or(SegmentsOfMessages(size()))),
      one_round_(RoundsOf(size(), size())),
      rounds_(RoundsOf(size(), segments_.direct_ranks)),
      buffer_(device, segments_) {
  CHECK(device.host_addressable() || !device.computes())
      << "group " << name() << ": messages are made in host memory, not on device " << device.name();
}

PointToPointGroup::~PointToPointGroup() { PointToPointGroup::FinishSends(); }

PointToPointGroup::Bytes PointToPointGroup::Elements(const Tensor& x, int64_t begin, int64_t end) {
  const int64_t size = static_cast<int64_t>(SizeOf(x.dtype()));
  char* data = static_cast<char*>(x.raw());
  return {data == nullptr ? nullptr : data + begin * size, (end - begin) * size};
}

void PointToPointGroup::Copy(Bytes from, Bytes to) const {
  CHECK_EQ(from.bytes, to.bytes);
  if (from.data != nullptr && from.data != to.data && from.bytes > 0) std::memcpy(to.data, from.data, from.bytes);
}

void PointToPointGroup::CheckAddressable(const Tensor& x) const {
  CHECK(x.defined());
  CHECK(x.raw() != nullptr || x.bytes() == 0 || !transport_->moves())
      << "group " << name() << ": a tensor of the null device has no elements to send; use a null world";
}

void PointToPointGroup::Wait(const Operation& operation, Transport::Message& message, int peer) {
  const Waiting waiting(*membership().patience);
  if (message.Done()) return;
  const Patience::Limit limit = membership().patience->limit();
  const auto timeout =
      std::chrono::duration_cast<Transport::Clock::duration>(std::chrono::duration<double>(limit.seconds));
  if (transport_->Wait(message, Transport::Clock::now() + timeout)) return;
  std::ostringstream text;
  text << "group \"" << name() << "\": " << membership().NameOf(rank()) << " waited " << limit.Text() << " in " << operation.name << " of " << operation.bytes << " bytes";
  if (operation.tag >= 0) text << " with tag " << operation.tag;
  text << " for " << (peer < 0 ? "the others, of which one" : membership().NameOf(peer) + ", which") << " did not come";
  transport_->Abort(text.str());
}

std::unique_ptr<Transport::Message> PointToPointGroup::StartSend(int to, int tag, Bytes bytes) {
  if (to != rank()) {
    bytes_sent_ += bytes.bytes;
    ++messages_sent_;
  }
  CountPeer(to);
  return transport_->Send(to, tag, bytes.data, bytes.bytes);
}

std::unique_ptr<Transport::Message> PointToPointGroup::Expect(int from, int tag, Bytes bytes) {
  CountPeer(from);
  return transport_->Receive(from, tag, bytes.data, bytes.bytes);
}

void PointToPointGroup::SendNow(const Operation& operation, int to, Bytes bytes) {
  if (bytes.bytes > 0) Wait(operation, *StartSend(to, kCollectiveTag, bytes), to);
}

void PointToPointGroup::ReceiveNow(const Operation& operation, int from, Bytes bytes) {
  if (bytes.bytes > 0) Wait(operation, *Expect(from, kCollectiveTag, bytes), from);
}

void PointToPointGroup::Broadcast(const Tensor& x, int root) {
  CheckRoot(root);
  CheckAddressable(x);
  if (x.elements() == 0) return;
  SendDown({"Broadcast", x.bytes()}, root, Elements(x, 0, x.elements()));
}

void PointToPointGroup::SendDown(const Operation& operation, int root, Bytes bytes) {
  // Ranks counted from the root.
  const int place = (rank() - root + size()) % size();
  const auto rank_at = [&](int p) { return (p + root) % size(); };
  if (place > 0) ReceiveNow(operation, rank_at(ParentInTree(place)), bytes);
  std::vector<int> children = ChildrenInTree(place, size());
  std::reverse(children.begin(), children.end());  // first to whoever has the longest way left
  if (bytes.bytes == 0) return;
  std::vector<std::pair<int, std::unique_ptr<Transport::Message>>> sends;
  for (const int child : children) sends.emplace_back(rank_at(child), StartSend(rank_at(child), kCollectiveTag, bytes));
  for (auto& [to, message] : sends) Wait(operation, *message, to);
}

std::deque<PointToPointGroup::Pending>::iterator PointToPointGroup::Find(std::deque<Pending>& messages, int peer,
                                                                         int tag) {
  return std::find_if(messages.begin(), messages.end(),
                      [&](const Pending& message) { return message.peer == peer && message.tag == tag; });
}

void PointToPointGroup::Send(const Tensor& x, int to, int tag) {
  CHECK(0 <= to && to < size()) << "rank " << to << " of " << size();
  CHECK_GE(tag, 0);
  CheckAddressable(x);
  sends_.push_back({x, StartSend(to, kFirstUserTag + tag, Elements(x, 0, x.elements())), to, tag});
  sends_.back().message->MoveAlone();
}

PointToPointGroup::Pending& PointToPointGroup::PostReceive(const Tensor& x, int from, int tag) {
  CHECK(0 <= from && from < size()) << "rank " << from << " of " << size();
  CHECK_GE(tag, 0);
  CheckAddressable(x);
  receives_.push_back({x, Expect(from, kFirstUserTag + tag, Elements(x, 0, x.elements())), from, tag});
  return receives_.back();
}

void PointToPointGroup::StartReceive(const Tensor& x, int from, int tag) {
  PostReceive(x, from, tag).message->MoveAlone();
}

void PointToPointGroup::Receive(const Tensor& x, int from, int tag) {
  if (Find(receives_, from, tag) == receives_.end()) PostReceive(x, from, tag);
  const auto receive = Find(receives_, from, tag);
  CHECK(receive->x.raw() == x.raw() && receive->x.bytes() == x.bytes())
      << "group " << name() << ": the receive from rank " << from << " with tag " << tag
      << " was started into another tensor";
  Wait({"Receive", x.bytes(), tag}, *receive->message, from);
  receives_.erase(receive);
}

void PointToPointGroup::FinishSend(int to, int tag) {
  const auto send = Find(sends_, to, tag);
  CHECK(send != sends_.end()) << "nothing sent to rank " << to << " with tag " << tag << " is unfinished";
  Wait({"Send", send->x.bytes(), tag}, *send->message, to);
  sends_.erase(send);
}

void PointToPointGroup::FinishSends() {
  for (Pending& send : sends_) Wait({"Send", send.x.bytes(), send.tag}, *send.message, send.peer);
  sends_.clear();
}

std::vector<double> PointToPointGroup::SumAndGather(std::span<double> values, std::span<const double> own) {
  const auto n = static_cast<int64_t>(values.size());
  const int64_t each = n + static_cast<int64_t>(own.size());  // of one rank
  const Operation operation{"AllReduceSum", each * static_cast<int64_t>(sizeof(double))};
  // This rank's subtree, in rank order.
  std::vector<double> parts(static_cast<size_t>(each * SubtreeSize(rank(), size())));
  std::copy(own.begin(), own.end(), std::copy(values.begin(), values.end(), parts.begin()));
  for (const int child : ChildrenInTree(rank(), size())) {
    ReceiveNow(operation, child,
               {parts.data() + (child - rank()) * each, SubtreeSize(child, size()) * operation.bytes});
  }
  std::vector<double> gathered;
  if (rank() > 0) {
    SendNow(operation, ParentInTree(rank()), {parts.data(), static_cast<int64_t>(parts.size() * sizeof(double))});
  }
  for (int r = 0; r < size() && rank() == 0; ++r) {
    const double* part = parts.data() + (transport_->moves() ? r : 0) * each;  // else every rank has this rank's
    gathered.insert(gathered.end(), part + n, part + each);
  }
  if (rank() == 0 && transport_->moves()) {
    for (int64_t distance = 1; distance < size(); distance *= 2) {
      for (int64_t r = 0; r + distance < size(); r += 2 * distance) {
        for (int64_t i = 0; i < n; ++i) parts[r * each + i] += parts[(r + distance) * each + i];
      }
    }
    std::copy_n(parts.begin(), n, values.begin());
  }
  SendDown(operation, /*root=*/0, {values.data(), n * static_cast<int64_t>(sizeof(double))});
  return gathered;
}

void PointToPointGroup::AllReduceMax(std::span<double> values) {
  const Operation operation{"AllReduceMax", static_cast<int64_t>(values.size_bytes())};
  std::vector<double> others(values.begin(), values.end());
  for (const int child : ChildrenInTree(rank(), size())) {
    ReceiveNow(operation, child, {others.data(), operation.bytes});
    for (size_t i = 0; i < values.size(); ++i) {
      // A NaN anywhere is the maximum: it must not hide.
      if (values[i] == values[i] && !(others[i] <= values[i])) values[i] = others[i];
    }
  }
  if (rank() > 0) SendNow(operation, ParentInTree(rank()), {values.data(), operation.bytes});
  SendDown(operation, /*root=*/0, {values.data(), operation.bytes});
}

void PointToPointGroup::SendText(const char* operation, int to, const std::string& text) {
  auto length = static_cast<int64_t>(text.size());
  SendNow({operation, sizeof(length)}, to, {&length, sizeof(length)});
  SendNow({operation, length}, to, {const_cast<char*>(text.data()), length});
}

std::string PointToPointGroup::ReceiveText(const char* operation, int from) {
  int64_t length = 0;
  ReceiveNow({operation, sizeof(length)}, from, {&length, sizeof(length)});
  std::string text(static_cast<size_t>(length), '\0');
  ReceiveNow({operation, length}, from, {text.data(), length});
  return text;
}

// Up the tree travel a subtree's texts, joined.
std::vector<std::string> PointToPointGroup::GatherStrings(const std::string& text) {
  std::string texts = JoinTexts({text});
  for (const int child : ChildrenInTree(rank(), size())) {
    if (transport_->moves()) {
      texts += ReceiveText("GatherStrings", child);
    } else {  // every rank has this rank's text
      texts += JoinTexts(std::vector<std::string>(static_cast<size_t>(SubtreeSize(child, size())), text));
    }
  }
  if (rank() > 0) SendText("GatherStrings", ParentInTree(rank()), texts);
  if (!transport_->moves()) return std::vector<std::string>(static_cast<size_t>(size()), text);
  return rank() == 0 ? SplitTexts(texts) : std::vector<std::string>();
}

std::string PointToPointGroup::ReduceStrings(const std::string& text, const JoinOfTexts& join) {
  std::string made = text;
  for (const int child : ChildrenInTree(rank(), size())) {
    if (transport_->moves()) made = join(made, ReceiveText("ReduceStrings", child));
  }
  if (rank() > 0) SendText("ReduceStrings", ParentInTree(rank()), made);
  return rank() == 0 ? made : "";
}

std::vector<Group::RankText> PointToPointGroup::ExchangeStrings(std::vector<RankText> texts) {
  struct Letter {
    int from, to;
    std::string text;
  };
  std::vector<Letter> here;
  for (RankText& text : texts) {
    CHECK(0 <= text.rank && text.rank < size()) << "rank " << text.rank << " of " << size();
    here.push_back({rank(), text.rank, std::move(text.text)});
  }
  for (int distance = 1; distance < size(); distance *= 2) {
    // The way from here still has no bit below this one.
    const auto leaves = [&](const Letter& letter) { return ((letter.to - rank() + size()) % size() & distance) != 0; };
    std::vector<std::string> leaving;
    for (const Letter& letter : here) {
      if (!leaves(letter)) continue;
      const int ends[] = {letter.from, letter.to};
      leaving.push_back(std::string(reinterpret_cast<const char*>(ends), sizeof(ends)) + letter.text);
    }
    std::erase_if(here, leaves);
    const int next = (rank() + distance) % size(), previous = (rank() - distance + size()) % size();
    const std::string sent = JoinTexts(leaving);
    auto length = static_cast<int64_t>(sent.size());
    const Operation operation{"ExchangeStrings", length};
    const auto length_message = StartSend(next, kCollectiveTag, {&length, sizeof(length)});
    const Bytes bytes = {const_cast<char*>(sent.data()), length};
    const auto message = length > 0 ? StartSend(next, kCollectiveTag, bytes) : nullptr;
    const std::string arrived = ReceiveText(operation.name, previous);
    for (const std::string& letter : SplitTexts(arrived)) {
      int ends[2];
      CHECK_GE(letter.size(), sizeof(ends));
      std::memcpy(ends, letter.data(), sizeof(ends));
      here.push_back({ends[0], ends[1], letter.substr(sizeof(ends))});
    }
    Wait(operation, *length_message, next);
    if (message != nullptr) Wait(operation, *message, next);
  }
  std::stable_sort(here.begin(), here.end(), [](const Letter& a, const Letter& b) { return a.from < b.from; });
  std::vector<RankText> mine;
  for (Letter& letter : here) {
    CHECK_EQ(letter.to, rank());
    mine.push_back({letter.from, std::move(letter.text)});
  }
  return mine;
}

std::string PointToPointGroup::BroadcastString(const std::string& text) {
  std::string of_root = text;
  auto length = static_cast<int64_t>(of_root.size());
  SendDown({"BroadcastString", sizeof(length)}, /*root=*/0, {&length, sizeof(length)});
  of_root.resize(static_cast<size_t>(length));
  SendDown({"BroadcastString", length}, /*root=*/0, {of_root.data(), length});
  return of_root;
}

}  // namespace trefoil
