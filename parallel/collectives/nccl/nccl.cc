#include "parallel/collectives/nccl/nccl.h"

#include <cuda_runtime_api.h>
#include <glog/logging.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/collectives/nccl/lane.h"
#include "parallel/collectives/nccl/watchdog.h"
#include "parallel/collectives/sum_buffer.h"
#include "runtime/devices/cuda.h"
#include "runtime/kernels/cuda/cuda.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

void* At(const Tensor& x, int64_t element) {
  return static_cast<char*>(x.raw()) + element * static_cast<int64_t>(SizeOf(x.dtype()));
}

size_t Count(const Tensor& x) { return static_cast<size_t>(x.elements()); }

class NcclGroup : public Group {
 public:
  NcclGroup(std::unique_ptr<Group> host, Device& device, NcclWatchdog& watchdog, RankSums sums)
      : Group(host->membership()),
        host_(std::move(host)),
        device_(device),
        watchdog_(watchdog),
        sums_(sums),
        who_(WhoWith("")),
        segments_(SegmentsOfNccl(size())),
        buffer_(device, segments_) {}

  // Communicators end in the same order on all ranks: ending one may wait for the peers.
  ~NcclGroup() override {
    while (!lanes_.empty()) lanes_.erase(lanes_.begin());
    if (comm_ == nullptr) return;
    watchdog_.Remove(comm_);
    const NcclWatchdog::Call call(watchdog_, who_, "ending the communicator");
    call.Check(ncclCommDestroy(comm_), nullptr);
  }

  void AllReduceSum(const Tensor& x) override {
    CheckSum(x);
    if (size() == 1 || x.elements() == 0) return;
    if (sums_ == RankSums::kFastest) {
      CountRing(x.bytes(), 2);
      return Collective("AllReduceSum", [&](ncclComm_t comm, cudaStream_t stream) {
        return ncclAllReduce(x.raw(), x.raw(), Count(x), NcclTypeOf(x.dtype()), ncclSum, comm, stream);
      });
    }
    const int64_t segment = size() * segments_.PartElements(x.dtype());
    for (int64_t begin = 0; begin < x.elements(); begin += segment) {
      AllReduceSegment(x.Range(begin, {std::min(segment, x.elements() - begin)}));
    }
  }

  void ReduceScatterSum(const Tensor& in, const Tensor& out) override {
    CheckScatter(in, out);
    if (size() == 1) return Copy(in, out);
    if (out.elements() == 0) return;
    if (sums_ == RankSums::kFastest) {
      CountRing(in.bytes(), 1);
      return Collective("ReduceScatterSum", [&](ncclComm_t comm, cudaStream_t stream) {
        return ncclReduceScatter(in.raw(), out.raw(), Count(out), NcclTypeOf(in.dtype()), ncclSum, comm, stream);
      });
    }
    const int64_t n = out.elements();
    const int64_t most = segments_.PartElements(in.dtype());
    for (int64_t begin = 0; begin < n; begin += most) {
      const int64_t count = std::min(most, n - begin);
      const Tensor parts = buffer_.Parts(in.dtype(), size(), count, count);
      Messages messages(*this, "ReduceScatterSum");
      for (int r = 0; r < size(); ++r) {
        messages.Send(At(in, r * n + begin), count, in.dtype(), r);
        messages.Receive(At(parts, r * count), count, in.dtype(), r);
      }
      messages.End();
      SumParts(device_, parts, out.Range(begin, {count}));
    }
  }

  // Whatever the sums are: nothing is added.
  void AllGather(const Tensor& in, const Tensor& out) override {
    CheckGather(in, out);
    if (size() == 1) return Copy(in, out);
    if (in.elements() == 0) return;
    CountRing(out.bytes(), 1);
    Collective("AllGather", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllGather(in.raw(), out.raw(), Count(in), NcclTypeOf(in.dtype()), comm, stream);
    });
  }

  void AllToAll(const Tensor& in, const Tensor& out) override {
    CheckAllToAll(in, out);
    if (size() == 1) return Copy(in, out);
    const int64_t n = in.elements() / size();
    if (n == 0) return;
    Messages messages(*this, "AllToAll");
    for (int r = 0; r < size(); ++r) {
      messages.Send(At(in, r * n), n, in.dtype(), r);
      messages.Receive(At(out, r * n), n, in.dtype(), r);
    }
    messages.End();
  }

  void Broadcast(const Tensor& x, int root) override {
    CheckRoot(root);
    if (size() == 1 || x.elements() == 0) return;
    CountRing(x.bytes(), 1);
    Collective("Broadcast", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(x.raw(), x.raw(), Count(x), NcclTypeOf(x.dtype()), root, comm, stream);
    });
  }

  void Send(const Tensor& x, int to, int tag) override {
    CheckPeer(to);
    if (x.elements() == 0) return;
    Lanes& lanes = lanes_[{rank(), to, tag % kLanes}];
    if (lanes.send == nullptr) {
      const NcclWatchdog::Who who = WhoWith(", to " + membership().NameOf(to));
      ncclUniqueId id = {};
      {
        const NcclWatchdog::Call call(watchdog_, who, "making an id");
        call.Check(ncclGetUniqueId(&id), nullptr);
      }
      const Tensor words = IdTensor();
      std::memcpy(words.raw(), id.internal, sizeof(id.internal));
      host_->Send(words, to, kIdTag + tag % kLanes);
      lanes.send = std::make_unique<NcclSendLane>(id, who, device_, watchdog_);
    }
    lanes.send->Send(x, tag);
    bytes_sent_ += x.bytes();
  }
  // Where a lane is new, its communicator is started by the Receive: the sender may come later.
  void StartReceive(const Tensor& x, int from, int tag) override {
    CheckPeer(from);
    const auto lanes = lanes_.find({from, rank(), tag % kLanes});
    if (x.elements() == 0 || lanes == lanes_.end() || lanes->second.receive == nullptr) return;
    lanes->second.receive->Start(x);
  }
  void Receive(const Tensor& x, int from, int tag) override {
    CheckPeer(from);
    if (x.elements() == 0) return;
    Lanes& lanes = lanes_[{from, rank(), tag % kLanes}];
    if (lanes.receive == nullptr) {
      ncclUniqueId id = {};
      const Tensor words = IdTensor();
      host_->Receive(words, from, kIdTag + tag % kLanes);
      std::memcpy(id.internal, words.raw(), sizeof(id.internal));
      lanes.receive = std::make_unique<NcclReceiveLane>(id, WhoWith(", from " + membership().NameOf(from)), device_,
                                                        watchdog_);
    }
    lanes.receive->Receive(x);
  }
  // Of messages with elements. The host waits no longer than until the message is queued.
  void FinishSend(int to, int tag) override {
    CheckPeer(to);
    const auto lanes = lanes_.find({rank(), to, tag % kLanes});
    CHECK(lanes != lanes_.end() && lanes->second.send != nullptr) << *who_ << ": nothing sent to rank " << to;
    const Waiting waiting(*membership().patience);
    lanes->second.send->FinishSend(tag);
  }
  void FinishSends() override {
    const Waiting waiting(*membership().patience);
    for (const auto& [ends, lanes] : lanes_) {
      if (lanes.send != nullptr) lanes.send->FinishSends();
    }
  }

  void Replayed() override {
    buffer_.Pin();
    if (comm_ != nullptr) NcclWatchdog::Call(watchdog_, who_, "a replay with its messages").Queued(CudaStreamOf(device_));
  }

  std::vector<double> SumAndGather(std::span<double> values, std::span<const double> own) override {
    return host_->SumAndGather(values, own);
  }
  void AllReduceMax(std::span<double> values) override { host_->AllReduceMax(values); }
  std::vector<std::string> GatherStrings(const std::string& text) override { return host_->GatherStrings(text); }
  std::string ReduceStrings(const std::string& text, const JoinOfTexts& join) override {
    return host_->ReduceStrings(text, join);
  }
  std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) override {
    return host_->ExchangeStrings(std::move(texts));
  }
  std::string BroadcastString(const std::string& text) override { return host_->BroadcastString(text); }

 private:
  static constexpr int kIdTag = 1 << 14;  // and those of the lanes behind it

  // From one rank to another in one lane: one of the two, at the end that this rank is.
  struct Lanes {
    std::unique_ptr<NcclSendLane> send;
    std::unique_ptr<NcclReceiveLane> receive;
  };

  // Messages between pairs that NCCL makes at once. Both ends leave out those of no element.
  class Messages {
   public:
    Messages(NcclGroup& group, const char* operation)
        : group_(group),
          comm_(group.Comm()),
          stream_(CudaStreamOf(group.device_)),
          call_(group.watchdog_, group.who_, operation) {
      call_.Check(ncclGroupStart(), comm_);
    }
    void Send(const void* data, int64_t count, DType dtype, int to) {
      if (count == 0) return;
      call_.Check(ncclSend(data, static_cast<size_t>(count), NcclTypeOf(dtype), to, comm_, stream_), comm_);
      if (to != group_.rank()) group_.bytes_sent_ += count * static_cast<int64_t>(SizeOf(dtype));
    }
    void Receive(void* data, int64_t count, DType dtype, int from) {
      if (count == 0) return;
      call_.Check(ncclRecv(data, static_cast<size_t>(count), NcclTypeOf(dtype), from, comm_, stream_), comm_);
    }
    void End() {
      call_.Check(ncclGroupEnd(), comm_);
      call_.Queued(stream_);
    }

   private:
    NcclGroup& group_;
    const ncclComm_t comm_;
    const cudaStream_t stream_;
    NcclWatchdog::Call call_;
  };

  // Queues a collective of NCCL's own, which `start` starts.
  template <typename Start>
  void Collective(const char* operation, const Start& start) {
    const ncclComm_t comm = Comm();
    const cudaStream_t stream = CudaStreamOf(device_);
    NcclWatchdog::Call call(watchdog_, who_, operation);
    call.Check(start(comm, stream), comm);
    call.Queued(stream);
  }

  NcclWatchdog::Who WhoWith(const std::string& peer) const {
    return std::make_shared<const std::string>("group \"" + name() + "\" of " + std::to_string(size()) + ": " +
                                               membership().NameOf(rank()) + peer);
  }

  void CheckPeer(int peer) const {
    CHECK(0 <= peer && peer < size() && peer != rank()) << *who_ << ": a message between it and rank " << peer;
  }

  // Room for an id in the host's memory.
  Tensor IdTensor() const {
    return id_host_->Allocate(DType::kInt32, {sizeof(ncclUniqueId) / sizeof(int32_t)}, Purpose::kCommunication);
  }

  void Copy(const Tensor& in, const Tensor& out) {
    if (in.raw() == out.raw() || in.bytes() == 0) return;
    TREFOIL_CUDA(cudaMemcpyAsync(out.raw(), in.raw(), static_cast<size_t>(in.bytes()), cudaMemcpyDeviceToDevice,
                                 CudaStreamOf(device_)));
  }

  // Started by the first collective of more than one rank, which every rank of the group makes.
  ncclComm_t Comm() {
    if (comm_ != nullptr) return comm_;
    (void)CudaStreamOf(device_);  // makes this thread's current GPU the group's
    ncclUniqueId id = {};
    {
      const NcclWatchdog::Call call(watchdog_, who_, "making an id");
      if (rank() == 0) call.Check(ncclGetUniqueId(&id), nullptr);
    }
    const std::string text = host_->BroadcastString(std::string(id.internal, sizeof(id.internal)));
    std::memcpy(id.internal, text.data(), sizeof(id.internal));
    {
      const NcclWatchdog::Call call(watchdog_, who_, "starting the communicator");
      call.Check(ncclCommInitRank(&comm_, size(), id, rank()), nullptr);
    }
    watchdog_.Add(who_, comm_);
    return comm_;
  }

  // Rank r's part of n elements is [n r / P, n (r + 1) / P).
  void AllReduceSegment(const Tensor& x) {
    const int64_t n = x.elements();
    const auto begin = [&](int r) { return n * r / size(); };
    const auto count = [&](int r) { return begin(r + 1) - begin(r); };
    const int64_t mine = count(rank());
    {
      const Tensor parts = buffer_.Parts(x.dtype(), size(), mine, (n + size() - 1) / size());
      Messages messages(*this, "AllReduceSum");
      for (int r = 0; r < size(); ++r) {
        messages.Send(At(x, begin(r)), count(r), x.dtype(), r);
        messages.Receive(At(parts, r * mine), mine, x.dtype(), r);
      }
      messages.End();
      if (mine > 0) SumParts(device_, parts, x.Range(begin(rank()), {mine}));
    }
    Messages messages(*this, "AllReduceSum");
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      messages.Send(At(x, begin(rank())), mine, x.dtype(), r);
      messages.Receive(At(x, begin(r)), count(r), x.dtype(), r);
    }
    messages.End();
  }

  const std::unique_ptr<Group> host_;
  const std::unique_ptr<Device> id_host_ = NewCpuDevice(/*threads=*/1);
  Device& device_;
  NcclWatchdog& watchdog_;
  const RankSums sums_;
  const NcclWatchdog::Who who_;
  const SumSegments segments_;
  SumBuffer buffer_;
  ncclComm_t comm_ = nullptr;
  std::map<std::tuple<int, int, int>, Lanes> lanes_;  // by sender, receiver and lane
};

class NcclWorld : public World {
 public:
  explicit NcclWorld(World& host)
      : world_(host), host_(NewCpuDevice(/*threads=*/1)), watchdog_(host.all().membership().patience) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    return std::make_unique<NcclGroup>(world_.NewGroup(name, ranks, *host_), device, watchdog_, sums);
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
  NcclWatchdog watchdog_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<World>> NewNcclWorld(World& host) { return std::make_unique<NcclWorld>(host); }

}  // namespace trefoil
