#include "parallel/collectives_nccl.h"

#include <cuda_runtime_api.h>
#include <glog/logging.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "runtime/device_cuda.h"
#include "runtime/kernels/cuda.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

// Sums are made in segments of at most this many bytes, whose parts are held beside the tensor.
constexpr int64_t kSegmentBytes = int64_t{64} << 20;

ncclDataType_t TypeOf(DType dtype) {
  return dtype == DType::kFloat32 ? ncclFloat32 : dtype == DType::kBFloat16 ? ncclBfloat16 : ncclInt32;
}

void* At(const Tensor& x, int64_t element) {
  return static_cast<char*>(x.raw()) + element * static_cast<int64_t>(SizeOf(x.dtype()));
}

class NcclGroup : public Group {
 public:
  NcclGroup(std::unique_ptr<Group> host, Device& device)
      : Group(host->name(), host->rank(), host->size()), host_(std::move(host)), device_(device) {}

  ~NcclGroup() override {
    FinishSends();
    for (auto& [peers, lane] : lanes_) {
      CheckNccl(ncclCommDestroy(lane.comm), "destroying a communicator");
      TREFOIL_CUDA(cudaStreamDestroy(lane.stream));
    }
    if (comm_ != nullptr) CheckNccl(ncclCommDestroy(comm_), "destroying a communicator");
  }

  void AllReduceSum(const Tensor& x) override {
    CHECK(x.dtype() != DType::kInt32) << "sums are of float32 or bfloat16";
    if (size() == 1 || x.elements() == 0) return;
    const int64_t segment = kSegmentBytes / static_cast<int64_t>(SizeOf(x.dtype()));
    for (int64_t begin = 0; begin < x.elements(); begin += segment) {
      AllReduceSegment(x.Range(begin, {std::min(segment, x.elements() - begin)}));
    }
  }

  void ReduceScatterSum(const Tensor& in, const Tensor& out) override {
    CHECK_EQ(in.elements(), out.elements() * size()) << in.shape() << " to " << out.shape();
    const int64_t n = out.elements(), most = kSegmentBytes / static_cast<int64_t>(SizeOf(in.dtype())) / size();
    for (int64_t begin = 0; begin < n; begin += most) {
      const int64_t count = std::min(most, n - begin);
      const Tensor parts = device_.Allocate(in.dtype(), {size(), count}, Purpose::kCommunication);
      Start();
      for (int r = 0; r < size(); ++r) {
        SendPart("ReduceScatterSum", At(in, r * n + begin), count, in.dtype(), r);
        ReceivePart("ReduceScatterSum", At(parts, r * count), count, in.dtype(), r);
      }
      End("ReduceScatterSum");
      SumParts(device_, parts, out.Range(begin, {count}));
    }
  }

  void AllGather(const Tensor& in, const Tensor& out) override {
    CHECK_EQ(in.elements() * size(), out.elements()) << in.shape() << " to " << out.shape();
    if (in.elements() == 0) return;
    CheckNccl(ncclAllGather(in.raw(), out.raw(), static_cast<size_t>(in.elements()), TypeOf(in.dtype()), Comm(),
                            CudaStreamOf(device_)),
              "AllGather");
    bytes_sent_ += in.bytes() * (size() - 1);
  }

  void Broadcast(const Tensor& x, int root) override {
    CHECK(0 <= root && root < size()) << "root " << root << " of " << size() << " ranks";
    if (size() == 1 || x.elements() == 0) return;
    CheckNccl(ncclBroadcast(x.raw(), x.raw(), static_cast<size_t>(x.elements()), TypeOf(x.dtype()), root, Comm(),
                            CudaStreamOf(device_)),
              "Broadcast");
    if (rank() == root) bytes_sent_ += x.bytes();
  }

  // Tags are not needed: the messages of a lane arrive in order of sending, and a schedule's receives are in that order.
  void Send(const Tensor& x, int to, int) override {
    while (!sends_.empty() && cudaEventQuery(*sends_.front().second) == cudaSuccess) sends_.pop_front();
    Lane& lane = LaneOf(rank(), to);
    // The lane's stream starts when x is written, and x is kept until it has been read.
    auto done = NewEvent();
    TREFOIL_CUDA(cudaEventRecord(*done, CudaStreamOf(device_)));
    TREFOIL_CUDA(cudaStreamWaitEvent(lane.stream, *done));
    CheckNccl(ncclSend(x.raw(), static_cast<size_t>(x.elements()), TypeOf(x.dtype()), 1, lane.comm, lane.stream),
              "Send");
    TREFOIL_CUDA(cudaEventRecord(*done, lane.stream));
    sends_.emplace_back(x, std::move(done));
    bytes_sent_ += x.bytes();
  }
  void Receive(const Tensor& x, int from, int) override {
    Lane& lane = LaneOf(from, rank());
    CheckNccl(ncclRecv(x.raw(), static_cast<size_t>(x.elements()), TypeOf(x.dtype()), 0, lane.comm,
                       CudaStreamOf(device_)),
              "Receive");
  }
  void FinishSends() override {
    for (const auto& [x, done] : sends_) TREFOIL_CUDA(cudaEventSynchronize(*done));
    sends_.clear();
  }

  void AllReduceSum(std::span<double> values) override { host_->AllReduceSum(values); }
  void AllReduceMax(std::span<double> values) override { host_->AllReduceMax(values); }
  std::vector<std::string> AllGatherStrings(const std::string& text) override { return host_->AllGatherStrings(text); }

 private:
  // From one rank to another: a communicator of the two (the sender is 0) and the sender's stream.
  struct Lane {
    ncclComm_t comm = nullptr;
    cudaStream_t stream = nullptr;
  };
  using Event = std::shared_ptr<cudaEvent_t>;

  void CheckNccl(ncclResult_t result, const char* operation) const {
    if (result == ncclSuccess) return;
    LOG(FATAL) << "group \"" << name() << "\": rank " << rank() << " of " << size() << ": " << operation << ": "
               << ncclGetErrorString(result) << ": " << ncclGetLastError(comm_);
  }

  static Event NewEvent() {
    Event event(new cudaEvent_t, [](cudaEvent_t* dead) {
      TREFOIL_CUDA(cudaEventDestroy(*dead));
      delete dead;
    });
    TREFOIL_CUDA(cudaEventCreateWithFlags(event.get(), cudaEventDisableTiming));
    return event;
  }

  // Started by the first collective, which every rank of the group makes.
  ncclComm_t Comm() {
    if (comm_ == nullptr) {
      (void)CudaStreamOf(device_);  // makes this thread's current device the group's
      ncclUniqueId id = {};
      if (rank() == 0) CheckNccl(ncclGetUniqueId(&id), "making an id");
      const std::string text = host_->AllGatherStrings(std::string(id.internal, sizeof(id.internal))).front();
      std::memcpy(id.internal, text.data(), sizeof(id.internal));
      CheckNccl(ncclCommInitRank(&comm_, size(), id, rank()), "starting the communicator");
    }
    ncclResult_t state = ncclSuccess;
    CheckNccl(ncclCommGetAsyncError(comm_, &state), "asking for errors");
    CheckNccl(state, "an earlier operation");
    return comm_;
  }

  // Started by the pair's first message; the sender passes the id through the host.
  Lane& LaneOf(int from, int to) {
    Lane& lane = lanes_[{from, to}];
    if (lane.comm != nullptr) return lane;
    (void)CudaStreamOf(device_);
    constexpr int kIdTag = 1 << 14;
    ncclUniqueId id = {};
    const Tensor words = id_host_->Allocate(DType::kInt32, {sizeof(id.internal) / sizeof(int32_t)}, Purpose::kCommunication);
    if (rank() == from) {
      CheckNccl(ncclGetUniqueId(&id), "making an id");
      std::memcpy(words.raw(), id.internal, sizeof(id.internal));
      host_->Send(words, to, kIdTag);
    } else {
      host_->Receive(words, from, kIdTag);
      std::memcpy(id.internal, words.raw(), sizeof(id.internal));
    }
    CheckNccl(ncclCommInitRank(&lane.comm, 2, id, rank() == from ? 0 : 1), "starting a communicator of two");
    TREFOIL_CUDA(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
    return lane;
  }

  void Start() { CheckNccl((Comm(), ncclGroupStart()), "starting a group of messages"); }
  void End(const char* operation) { CheckNccl(ncclGroupEnd(), operation); }
  void SendPart(const char* operation, const void* data, int64_t count, DType dtype, int to) {
    CheckNccl(ncclSend(data, static_cast<size_t>(count), TypeOf(dtype), to, comm_, CudaStreamOf(device_)), operation);
    if (to != rank()) bytes_sent_ += count * static_cast<int64_t>(SizeOf(dtype));
  }
  void ReceivePart(const char* operation, void* data, int64_t count, DType dtype, int from) {
    CheckNccl(ncclRecv(data, static_cast<size_t>(count), TypeOf(dtype), from, comm_, CudaStreamOf(device_)), operation);
  }

  // Rank r's part of n elements is [n r / P, n (r + 1) / P).
  void AllReduceSegment(const Tensor& x) {
    const int64_t n = x.elements();
    const auto begin = [&](int r) { return n * r / size(); };
    const auto count = [&](int r) { return begin(r + 1) - begin(r); };
    const int64_t mine = count(rank());
    {
      const Tensor parts = device_.Allocate(x.dtype(), {size(), mine}, Purpose::kCommunication);
      Start();
      for (int r = 0; r < size(); ++r) {
        SendPart("AllReduceSum", At(x, begin(r)), count(r), x.dtype(), r);
        ReceivePart("AllReduceSum", At(parts, r * mine), mine, x.dtype(), r);
      }
      End("AllReduceSum");
      if (mine > 0) SumParts(device_, parts, x.Range(begin(rank()), {mine}));
    }
    Start();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      SendPart("AllReduceSum", At(x, begin(rank())), mine, x.dtype(), r);
      ReceivePart("AllReduceSum", At(x, begin(r)), count(r), x.dtype(), r);
    }
    End("AllReduceSum");
  }

  const std::unique_ptr<Group> host_;
  const std::unique_ptr<Device> id_host_ = NewCpuDevice(/*threads=*/1);
  Device& device_;
  ncclComm_t comm_ = nullptr;
  std::map<std::pair<int, int>, Lane> lanes_;
  std::deque<std::pair<Tensor, Event>> sends_;
};

class NcclWorld : public World {
 public:
  explicit NcclWorld(World& host) : world_(host), host_(NewCpuDevice(/*threads=*/1)) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device) override {
    return std::make_unique<NcclGroup>(world_.NewGroup(name, ranks, *host_), device);
  }
  void set_timeout_seconds(double seconds) override { world_.set_timeout_seconds(seconds); }

 private:
  World& world_;
  const std::unique_ptr<Device> host_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<World>> NewNcclWorld(World& host) { return std::make_unique<NcclWorld>(host); }

}  // namespace trefoil
