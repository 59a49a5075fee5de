// A world in which what messages bring can be changed, for tests of what notices it.
//
//   FlippingWorld world(threads, [&](const std::string& group, const char* operation, const Tensor& result) {
//     if (group == "data" && operation == std::string("ReduceScatterSum")) ...;   // changes `result` on this rank
//   });
//
// Threads: as World; `arrived` is called by the thread that makes the call, which may be any.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/collectives/world.h"

namespace trefoil {

class FlippingWorld final : public World {
 public:
  // Called on this rank with what each call on tensors has brought, before the call returns.
  using Arrived = std::function<void(const std::string& group, const char* operation, const Tensor& result)>;
  FlippingWorld(World& world, Arrived arrived) : world_(world), arrived_(std::move(arrived)) {}

  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  const Hosts& hosts() const override { return world_.hosts(); }
  Group& all() override { return world_.all(); }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    return std::make_unique<FlippingGroup>(world_.NewGroup(name, ranks, device, sums), arrived_);
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) override {
    return std::make_unique<FlippingGroup>(world_.NewGroupBeside(name, phase), arrived_);
  }
  Patience& patience() override { return world_.patience(); }

 private:
  class FlippingGroup final : public Group {
   public:
    FlippingGroup(std::unique_ptr<Group> group, const Arrived& arrived)
        : Group(group->membership()), group_(std::move(group)), arrived_(arrived) {}
    void AllReduceSum(const Tensor& x) override {
      group_->AllReduceSum(x);
      arrived_(name(), "AllReduceSum", x);
    }
    void ReduceScatterSum(const Tensor& in, const Tensor& out) override {
      group_->ReduceScatterSum(in, out);
      arrived_(name(), "ReduceScatterSum", out);
    }
    void AllGather(const Tensor& in, const Tensor& out) override {
      group_->AllGather(in, out);
      arrived_(name(), "AllGather", out);
    }
    void AllToAll(const Tensor& in, const Tensor& out) override {
      group_->AllToAll(in, out);
      arrived_(name(), "AllToAll", out);
    }
    void Broadcast(const Tensor& x, int root) override {
      group_->Broadcast(x, root);
      arrived_(name(), "Broadcast", x);
    }
    void Send(const Tensor& x, int to, int tag) override { group_->Send(x, to, tag); }
    void Receive(const Tensor& x, int from, int tag) override {
      group_->Receive(x, from, tag);
      arrived_(name(), "Receive", x);
    }
    bool receives_early() const override { return group_->receives_early(); }
    void StartReceive(const Tensor& x, int from, int tag) override { group_->StartReceive(x, from, tag); }
    void FinishSend(int to, int tag) override { group_->FinishSend(to, tag); }
    void FinishSends() override { group_->FinishSends(); }
    void Replayed() override { group_->Replayed(); }
    std::vector<double> SumAndGather(std::span<double> values, std::span<const double> own) override {
      return group_->SumAndGather(values, own);
    }
    void AllReduceMax(std::span<double> values) override { group_->AllReduceMax(values); }
    std::vector<std::string> GatherStrings(const std::string& text) override { return group_->GatherStrings(text); }
    std::string ReduceStrings(const std::string& text, const JoinOfTexts& join) override {
      return group_->ReduceStrings(text, join);
    }
    std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) override {
      return group_->ExchangeStrings(std::move(texts));
    }
    std::string BroadcastString(const std::string& text) override { return group_->BroadcastString(text); }

   private:
    const std::unique_ptr<Group> group_;
    const Arrived& arrived_;
  };

  World& world_;
  const Arrived arrived_;
};

}  // namespace trefoil
