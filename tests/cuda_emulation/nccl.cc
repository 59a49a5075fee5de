// The part of NCCL that parallel/collectives/nccl/nccl.cc uses, between ranks that are threads of one process. A send
// is delivered when its stream comes to it and waits for nobody; a receive holds up its stream until the message is
// there.
#include <glog/logging.h>
#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/dtype.h"
#include "tests/cuda_emulation/stream.h"

struct ncclComm {
  uint64_t id;
  int rank, size;
};

namespace {

using Message = std::vector<char>;

// Messages under way, of all communicators.
class PostOffice {
 public:
  struct Address {
    uint64_t communicator;
    int from, to;
    auto operator<=>(const Address&) const = default;
  };
  void Put(const Address& address, Message message) {
    std::lock_guard lock(mutex_);
    boxes_[address].push_back(std::move(message));
    changed_.notify_all();
  }
  Message Take(const Address& address) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !boxes_[address].empty(); });
    Message message = std::move(boxes_[address].front());
    boxes_[address].pop_front();
    return message;
  }
  // Waits until `size` ranks have come for the communicator.
  void Meet(uint64_t communicator, int size) {
    std::unique_lock lock(mutex_);
    ++arrived_[communicator];
    changed_.notify_all();
    changed_.wait(lock, [&] { return arrived_[communicator] >= size; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Address, std::deque<Message>> boxes_;
  std::map<uint64_t, int> arrived_;
};
PostOffice& Office() {
  static auto* const office = new PostOffice;
  return *office;
}

size_t SizeOf(ncclDataType_t type) { return type == ncclBfloat16 ? 2 : type == ncclFloat64 ? 8 : type == ncclInt8 ? 1 : 4; }

struct Transfer {
  ncclComm communicator;  // a copy: work that is queued may be done after its end
  cudaStream_t stream;
  bool send;
  const void* from;
  void* to;
  size_t bytes;
  int peer;
};

thread_local int groups = 0;
thread_local std::vector<Transfer> grouped;

void Do(const Transfer& t) {
  const ncclComm& c = t.communicator;
  if (t.send) {
    const auto* start = static_cast<const char*>(t.from);
    Office().Put({c.id, c.rank, t.peer}, Message(start, start + t.bytes));
  } else {
    const Message message = Office().Take({c.id, t.peer, c.rank});
    CHECK_EQ(message.size(), t.bytes) << "a message of another size, from " << t.peer << " to " << c.rank;
    std::memcpy(t.to, message.data(), t.bytes);
  }
}

void Flush() {
  std::map<cudaStream_t, std::vector<Transfer>> by_stream;
  for (const Transfer& t : grouped) by_stream[t.stream].push_back(t);
  grouped.clear();
  for (auto& [stream, transfers] : by_stream) {
    trefoil::emulation::Enqueue(stream, [transfers = std::move(transfers)] {
      for (const Transfer& t : transfers) {
        if (t.send) Do(t);
      }
      for (const Transfer& t : transfers) {
        if (!t.send) Do(t);
      }
    });
  }
}

// sum += part, in the type's precision.
void AddTo(const Message& part, ncclDataType_t type, Message& sum) {
  for (size_t at = 0; at < sum.size(); at += SizeOf(type)) {
    if (type == ncclFloat32) {
      float a, b;
      std::memcpy(&a, part.data() + at, sizeof(a));
      std::memcpy(&b, sum.data() + at, sizeof(b));
      b += a;
      std::memcpy(sum.data() + at, &b, sizeof(b));
    } else {
      trefoil::BFloat16 a, b;
      std::memcpy(&a, part.data() + at, sizeof(a));
      std::memcpy(&b, sum.data() + at, sizeof(b));
      b = trefoil::BFloat16(static_cast<float>(a) + static_cast<float>(b));
      std::memcpy(sum.data() + at, &b, sizeof(b));
    }
  }
}

// out = sum over ranks of `bytes` bytes each; those for rank r are at in + stride r. From the last rank to the first,
// an order of its own as NCCL has.
void Reduce(const void* in, size_t stride, void* out, size_t bytes, ncclDataType_t type, ncclRedOp_t op,
            ncclComm* communicator, cudaStream_t stream) {
  CHECK(op == ncclSum && (type == ncclFloat32 || type == ncclBfloat16)) << "sums of float32 and bfloat16 only";
  CHECK_EQ(groups, 0) << "within a group";
  trefoil::emulation::Enqueue(stream, [=, c = *communicator] {
    for (int peer = 0; peer < c.size; ++peer) {
      const char* part = static_cast<const char*>(in) + stride * static_cast<size_t>(peer);
      Office().Put({c.id, c.rank, peer}, Message(part, part + bytes));
    }
    Message sum = Office().Take({c.id, c.size - 1, c.rank});
    CHECK_EQ(sum.size(), bytes) << "sums of different sizes";
    for (int peer = c.size - 2; peer >= 0; --peer) {
      const Message part = Office().Take({c.id, peer, c.rank});
      CHECK_EQ(part.size(), bytes) << "sums of different sizes";
      AddTo(part, type, sum);
    }
    std::memcpy(out, sum.data(), bytes);
  });
}

ncclResult_t Add(const Transfer& t) {
  CHECK(t.peer >= 0 && t.peer < t.communicator.size);
  CHECK(groups > 0 || t.peer != t.communicator.rank) << "a message to oneself outside a group";
  grouped.push_back(t);
  if (groups == 0) Flush();
  return ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<uint64_t> next{1};
  *id = {};
  const uint64_t number = next++;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* made, int size, ncclUniqueId id, int rank) {
  CHECK(rank >= 0 && rank < size);
  auto* communicator = new ncclComm{.id = 0, .rank = rank, .size = size};
  std::memcpy(&communicator->id, id.internal, sizeof(communicator->id));
  Office().Meet(communicator->id, size);
  *made = communicator;
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t*) {
  return ncclCommInitRank(made, size, id, rank);
}
ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  delete communicator;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t communicator) { return ncclCommDestroy(communicator); }
ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
// With TREFOIL_EMULATED_NCCL_ERROR in the environment, every connection is broken.
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  *error = std::getenv("TREFOIL_EMULATED_NCCL_ERROR") == nullptr ? ncclSuccess : ncclRemoteError;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "error of the emulated NCCL"; }
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGroupStart() {
  ++groups;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  CHECK_GT(groups, 0);
  if (--groups == 0) Flush();
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  return Add({*communicator, stream, true, data, nullptr, count * SizeOf(type), peer});
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  return Add({*communicator, stream, false, nullptr, data, count * SizeOf(type), peer});
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t communicator,
                           cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  ncclGroupStart();
  for (int peer = 0; peer < communicator->size; ++peer) {
    Add({*communicator, stream, true, in, nullptr, bytes, peer});
    Add({*communicator, stream, false, nullptr, static_cast<char*>(out) + peer * bytes, bytes, peer});
  }
  return ncclGroupEnd();
}
ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t communicator, cudaStream_t stream) {
  Reduce(in, /*stride=*/0, out, count * SizeOf(type), type, op, communicator, stream);
  return ncclSuccess;
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t communicator, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  Reduce(in, /*stride=*/bytes, out, bytes, type, op, communicator, stream);
  return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  ncclGroupStart();
  for (int peer = 0; communicator->rank == root && peer < communicator->size; ++peer) {
    Add({*communicator, stream, true, in, nullptr, bytes, peer});
  }
  Add({*communicator, stream, false, nullptr, out, bytes, root});
  return ncclGroupEnd();
}

}  // extern "C"
