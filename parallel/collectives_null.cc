// The null world: ranks that are not there. The algorithms are the real ones, over messages that do not move, so they
// check the same sizes, count the same bytes, and allocate the same memory as in a job of that size.
#include "parallel/point_to_point_group.h"
#include "parallel/world.h"

namespace trefoil {
namespace {

class NullTransport : public Transport {
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
};

class NullWorld : public World {
 public:
  NullWorld(int size, int rank) : size_(size), rank_(rank) {
    CHECK(0 <= rank && rank < size) << "rank " << rank << " of " << size;
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device) override {
    CHECK_LT(ranks.back(), size_) << "group " << name;
    return std::make_unique<PointToPointGroup>(name, ranks, PlaceInGroup(name, ranks, rank_), device,
                                               std::make_unique<NullTransport>(), 0.0);
  }
  void set_timeout_seconds(double) override {}

 private:
  const int size_, rank_;
};

}  // namespace

std::unique_ptr<World> NewNullWorld(int size, int rank) { return std::make_unique<NullWorld>(size, rank); }

}  // namespace trefoil
