// The null world: ranks that are not there. The algorithms are the real ones, over messages that do not move, so they
// check the same sizes, count the same bytes, and allocate the same memory as in a job of that size.
#include <cstring>
#include <utility>

#include "parallel/collectives/library_group.h"
#include "parallel/collectives/world.h"

namespace trefoil {
namespace {

class NullTransport : public LibraryTransport {
 public:
  class DoneMessage : public Message {
   public:
    bool Done() override { return true; }
  };
  std::unique_ptr<Message> Send(int, int, const void*, int64_t) override { return std::make_unique<DoneMessage>(); }
  std::unique_ptr<Message> Receive(int, int, void*, int64_t) override { return std::make_unique<DoneMessage>(); }
  bool Wait(Message&, Clock::time_point) override { return true; }
  bool moves() const override { return false; }
  [[noreturn]] void Abort(const std::string& message) override {
    LOG(FATAL) << message;
    __builtin_unreachable();
  }
  std::unique_ptr<Message> AllReduceSum(const Tensor&) override { return std::make_unique<DoneMessage>(); }
  std::unique_ptr<Message> ReduceScatterSum(const Tensor&, const Tensor&) override {
    return std::make_unique<DoneMessage>();
  }
  std::unique_ptr<Message> AllGather(const Tensor&) override { return std::make_unique<DoneMessage>(); }
  std::unique_ptr<Message> Broadcast(const Tensor&, int) override { return std::make_unique<DoneMessage>(); }
};

// Base: the group that it counts and allocates as, made of `of_base`.
template <typename Base>
class NullGroup : public Base {
 public:
  template <typename... OfBase>
  NullGroup(GroupObserver observer, StandsFor stands_for, OfBase&&... of_base)
      : Base(std::forward<OfBase>(of_base)...),
        observer_(std::move(observer)),
        receives_early_(stands_for == StandsFor::kMessages) {}

  void AllReduceSum(const Tensor& x) override {
    Note("AllReduceSum", x, this->ExchangesOfAllReduce(x));
    Base::AllReduceSum(x);
  }
  void ReduceScatterSum(const Tensor& in, const Tensor& out) override {
    Note("ReduceScatterSum", in, this->ExchangesOfReduceScatter(in));
    Base::ReduceScatterSum(in, out);
  }
  void AllGather(const Tensor& in, const Tensor& out) override {
    Note("AllGather", out, this->ExchangesOfAllGather(out));
    const int64_t n = in.elements();
    for (int r = 0; r < this->size() && out.raw() != nullptr; ++r) {
      if (r != this->rank()) SetToZeros(out.Range(r * n, {n}));
    }
    Base::AllGather(in, out);
  }
  void AllToAll(const Tensor& in, const Tensor& out) override {
    Note("AllToAll", in, {.rounds = this->one_round()});
    SetToZeros(out);
    Base::AllToAll(in, out);
  }
  void Broadcast(const Tensor& x, int root) override {
    Note("Broadcast", x, this->ExchangesOfBroadcast());
    Base::Broadcast(x, root);
  }
  void Send(const Tensor& x, int to, int tag) override {
    Note("Send", x, {.rounds = {{.ranks = 2, .distance = 1}}, .whole = true});
    Base::Send(x, to, tag);
  }
  void Receive(const Tensor& x, int from, int tag) override {
    Note("Receive", x, {});
    SetToZeros(x);
    Base::Receive(x, from, tag);
  }
  bool receives_early() const override { return receives_early_; }
  using Base::AllReduceSum;

 private:
  static void SetToZeros(const Tensor& x) {
    if (x.raw() != nullptr) std::memset(x.raw(), 0, static_cast<size_t>(x.bytes()));
  }
  void Note(const char* operation, const Tensor& x, Exchanges exchanges) {
    if (!observer_) return;
    const auto bytes = static_cast<double>(x.bytes());
    observer_({this->name(), this->membership().ranks, operation, bytes, std::move(exchanges)});
  }

  const GroupObserver observer_;
  const bool receives_early_;
};

class NullWorld : public World {
 public:
  NullWorld(int size, int rank, GroupObserver observer, StandsFor stands_for)
      : size_(size),
        rank_(rank),
        observer_(std::move(observer)),
        stands_for_(stands_for),
        hosts_(std::make_shared<const Hosts>("nowhere", size)) {
    CHECK(0 <= rank && rank < size) << "rank " << rank << " of " << size;
    all_ = NewGroupOfAll(*host_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  const Hosts& hosts() const override { return *hosts_; }
  Group& all() override { return *all_; }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    CHECK_LT(ranks.back(), size_) << "group " << name;
    const Membership membership = {.group = name,
                                   .ranks = ranks,
                                   .place = PlaceInGroup(name, ranks, rank_),
                                   .hosts = hosts_,
                                   .patience = patience_};
    auto transport = std::make_unique<NullTransport>();
    if (sums == RankSums::kFastest) {
      return std::make_unique<NullGroup<LibraryGroup>>(observer_, stands_for_, membership, device,
                                                       std::move(transport));
    }
    const auto size = static_cast<int>(ranks.size());
    return std::make_unique<NullGroup<PointToPointGroup>>(
        observer_, stands_for_, membership, device, std::move(transport),
        stands_for_ == StandsFor::kNccl ? SegmentsOfNccl(size) : SegmentsOfMessages(size));
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase) override {
    return NewGroup(name, all_->membership().ranks, *host_, RankSums::kOrdered);
  }
  Patience& patience() override { return *patience_; }

 private:
  const int size_, rank_;
  const GroupObserver observer_;
  const StandsFor stands_for_;
  const std::shared_ptr<const Hosts> hosts_;
  const std::shared_ptr<Patience> patience_ = std::make_shared<Patience>();
  const std::unique_ptr<Device> host_ = NewNullDevice();
  std::unique_ptr<Group> all_;
};

}  // namespace

std::unique_ptr<World> NewNullWorld(int size, int rank, GroupObserver observer, StandsFor stands_for) {
  return std::make_unique<NullWorld>(size, rank, std::move(observer), stands_for);
}

}  // namespace trefoil
