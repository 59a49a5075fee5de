// Collectives for a device whose memory the message library cannot read: through copies on the host.
#include <glog/logging.h>

#include <utility>

#include "parallel/collectives/world.h"

namespace trefoil {
namespace {

class StagedGroup : public Group {
 public:
  StagedGroup(std::unique_ptr<Group> group, Device& host, Device& device)
      : Group(group->membership()), group_(std::move(group)), host_(host), device_(device) {}

  void AllReduceSum(const Tensor& x) override {
    if (size() == 1) return;
    const Tensor copy = ToHost(x);
    group_->AllReduceSum(copy);
    ToDevice(copy, x);
  }
  void ReduceScatterSum(const Tensor& in, const Tensor& out) override {
    if (size() == 1 && in.raw() == out.raw()) return;
    const Tensor sum = Like(out);
    group_->ReduceScatterSum(ToHost(in), sum);
    ToDevice(sum, out);
  }
  void AllGather(const Tensor& in, const Tensor& out) override {
    if (size() == 1 && in.raw() == out.raw()) return;
    const Tensor all = Like(out);
    group_->AllGather(ToHost(in), all);
    ToDevice(all, out);
  }
  void AllToAll(const Tensor& in, const Tensor& out) override {
    const Tensor received = Like(out);
    group_->AllToAll(ToHost(in), received);
    ToDevice(received, out);
  }
  void Broadcast(const Tensor& x, int root) override {
    if (size() == 1) return;
    const Tensor copy = rank() == root ? ToHost(x) : Like(x);
    group_->Broadcast(copy, root);
    if (rank() != root) device_.Upload(copy.raw(), x);
    CountSent();
  }
  void Send(const Tensor& x, int to, int tag) override {
    group_->Send(ToHost(x), to, tag);
    CountSent();
  }
  void Receive(const Tensor& x, int from, int tag) override {
    const Tensor copy = Like(x);
    group_->Receive(copy, from, tag);
    ToDevice(copy, x);
  }
  void FinishSend(int to, int tag) override { group_->FinishSend(to, tag); }
  void FinishSends() override { group_->FinishSends(); }

  std::vector<double> SumAndGather(std::span<double> values, std::span<const double> own) override {
    auto gathered = group_->SumAndGather(values, own);
    CountSent();
    return gathered;
  }
  void AllReduceMax(std::span<double> values) override {
    group_->AllReduceMax(values);
    CountSent();
  }
  std::vector<std::string> GatherStrings(const std::string& text) override {
    auto texts = group_->GatherStrings(text);
    CountSent();
    return texts;
  }
  std::string ReduceStrings(const std::string& text, const JoinOfTexts& join) override {
    auto made = group_->ReduceStrings(text, join);
    CountSent();
    return made;
  }
  std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) override {
    auto mine = group_->ExchangeStrings(std::move(texts));
    CountSent();
    return mine;
  }
  std::string BroadcastString(const std::string& text) override {
    auto of_root = group_->BroadcastString(text);
    CountSent();
    return of_root;
  }

 private:
  Tensor Like(const Tensor& x) { return host_.Allocate(x.dtype(), x.shape(), Purpose::kCommunication); }
  Tensor ToHost(const Tensor& x) {
    const Tensor copy = Like(x);
    device_.Download(x, copy.raw());
    return copy;
  }
  void CountSent() {
    bytes_sent_ = group_->bytes_sent();
    messages_sent_ = group_->messages_sent();
  }
  void ToDevice(const Tensor& copy, const Tensor& x) {
    device_.Upload(copy.raw(), x);
    CountSent();
  }

  const std::unique_ptr<Group> group_;
  Device &host_, &device_;
};

class StagedWorld : public World {
 public:
  explicit StagedWorld(World& world) : world_(world), host_(NewCpuDevice(/*threads=*/1)) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    return std::make_unique<StagedGroup>(world_.NewGroup(name, ranks, *host_, sums), *host_, device);
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) override {
    return world_.NewGroupBeside(name, phase);
  }
  const Hosts& hosts() const override { return world_.hosts(); }
  Group& all() override { return world_.all(); }
  Patience& patience() override { return world_.patience(); }

 private:
  World& world_;
  const std::unique_ptr<Device> host_;
};

}  // namespace

std::unique_ptr<World> NewStagedWorld(World& world) { return std::make_unique<StagedWorld>(world); }

}  // namespace trefoil
