#include "parallel/collectives/mpi_transport.h"

#include <glog/logging.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace trefoil {
namespace {

// Longer messages are sent in pieces: MPI counts in int, and no piece need be large to be fast.
constexpr int64_t kLargestPiece = int64_t{16} << 20;

std::string ErrorText(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  return std::string(text, length);
}

// How a rank waits: by looking again and again. At first at once, for the latency of tens of microseconds that a
// balanced job needs; then yielding the core, which a rank with work to do may share; then asleep for a small share of
// the time waited so far, so that a long wait costs next to nothing.
class Pauses {
 public:
  // False when `deadline` has passed.
  bool Pause(Transport::Clock::time_point deadline) {
    if (++looks_ < 50) return true;
    const auto now = Transport::Clock::now();
    if (now >= deadline) return false;
    if (looks_ == 50) start_ = now;
    const auto waited = now - start_;
    if (waited < std::chrono::microseconds(200)) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(
          std::min<Transport::Clock::duration>(waited / 16, std::chrono::microseconds(250)));
    }
    return true;
  }

 private:
  int64_t looks_ = 0;
  Transport::Clock::time_point start_;
};

char* At(const Tensor& x, int64_t element) {
  return static_cast<char*>(x.raw()) + element * static_cast<int64_t>(SizeOf(x.dtype()));
}

MPI_Datatype TypeOf(DType dtype) {
  if (dtype == DType::kFloat32) return MPI_FLOAT;
  return SizeOf(dtype) == 4 ? MPI_INT32_T : SizeOf(dtype) == 2 ? MPI_UINT16_T : MPI_UINT8_T;
}

void AddBFloat16(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* a = static_cast<const BFloat16*>(in);
  auto* sum = static_cast<BFloat16*>(in_out);
  for (int i = 0; i < *count; ++i) sum[i] = BFloat16(static_cast<float>(a[i]) + static_cast<float>(sum[i]));
}

}  // namespace

class MpiTransport::MpiMessage : public Message {
 public:
  MpiMessage(MpiTransport& transport, int peer) : transport_(transport), peer_(peer) {}
  int peer() const { return peer_; }
  ~MpiMessage() override {
    if (watched_) transport_.progress_.Forget(*this);
  }
  bool Done() override {
    std::lock_guard lock(mutex_);
    for (; next_ < requests.size(); ++next_) {
      MPI_Status status;
      int done = 0;
      transport_.Check(MPI_Test(&requests[next_], &done, &status), "MPI_Test", peer_);
      if (!done) return false;
      if (expected >= 0) {
        int n = 0;
        MPI_Get_count(&status, MPI_BYTE, &n);
        received_ += n;
      }
    }
    if (expected >= 0) {
      CHECK_EQ(received_, expected) << "group \"" << transport_.membership_.group << "\": "
                                    << transport_.membership_.NameOf(peer_)
                                    << " sent another number of bytes than expected";
    }
    if (at_end) std::exchange(at_end, nullptr)();
    return true;
  }
  // Between hosts; on one host the receiver fetches the message alone.
  void MoveAlone() override {
    if (watched_ || !transport_.IsFar(peer_) || Done()) return;
    watched_ = true;
    transport_.progress_.Watch(*this);
  }
  std::vector<MPI_Request> requests;
  int64_t expected = -1;         // bytes, of a receive
  std::function<void()> at_end;  // called once, when all requests are done

 private:
  MpiTransport& transport_;
  const int peer_;
  bool watched_ = false;
  std::mutex mutex_;  // of what follows
  size_t next_ = 0;  // the first request that may not be done
  int64_t received_ = 0;
};

MpiTransport::MpiTransport(const Membership& membership, MPI_Comm comm, MpiProgress& progress, int largest_count)
    : membership_(membership), comm_(comm), progress_(progress), largest_count_(largest_count) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  int *value = nullptr, found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &value, &found);
  CHECK(found);
  largest_tag_ = *value;
  MPI_Op_create(&AddBFloat16, /*commute=*/1, &bfloat16_sum_);
}

MpiTransport::~MpiTransport() {
  MPI_Op_free(&bfloat16_sum_);
  MPI_Comm_free(&comm_);
}

template <typename StartPiece>
void MpiTransport::Start(MpiMessage& message, const char* call, int64_t n, int64_t largest,
                         const StartPiece& start_piece) {
  int64_t begin = 0;
  do {
    const int count = static_cast<int>(std::min(n - begin, largest));
    message.requests.emplace_back();
    Check(start_piece(begin, count, &message.requests.back()), call, message.peer());
    begin += count;
  } while (begin < n);
}

std::unique_ptr<Transport::Message> MpiTransport::Send(int to, int tag, const void* data, int64_t bytes) {
  CHECK_LE(tag, largest_tag_) << "group \"" << membership_.group << "\": MPI's largest tag";
  auto message = std::make_unique<MpiMessage>(*this, to);
  Start(*message, "MPI_Isend", bytes, kLargestPiece, [&](int64_t begin, int n, MPI_Request* request) {
    return MPI_Isend(static_cast<const char*>(data) + begin, n, MPI_BYTE, to, tag, comm_, request);
  });
  return message;
}

std::unique_ptr<Transport::Message> MpiTransport::Receive(int from, int tag, void* data, int64_t bytes) {
  CHECK_LE(tag, largest_tag_) << "group \"" << membership_.group << "\": MPI's largest tag";
  auto message = std::make_unique<MpiMessage>(*this, from);
  message->expected = bytes;
  Start(*message, "MPI_Irecv", bytes, kLargestPiece, [&](int64_t begin, int n, MPI_Request* request) {
    return MPI_Irecv(static_cast<char*>(data) + begin, n, MPI_BYTE, from, tag, comm_, request);
  });
  return message;
}

bool MpiTransport::Wait(Message& message, Clock::time_point deadline) {
  Pauses pauses;
  while (!message.Done()) {
    if (!pauses.Pause(deadline)) return false;
  }
  return true;
}

void MpiTransport::Abort(const std::string& message) {
  LOG(ERROR) << message;
  google::FlushLogFiles(google::GLOG_INFO);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::abort();
}

std::unique_ptr<Transport::Message> MpiTransport::AllReduceSum(const Tensor& x) {
  auto message = std::make_unique<MpiMessage>(*this, kEverybody);
  Start(*message, "MPI_Iallreduce", x.elements(), largest_count_, [&](int64_t begin, int n, MPI_Request* request) {
    return MPI_Iallreduce(MPI_IN_PLACE, At(x, begin), n, TypeOf(x.dtype()), SumOf(x.dtype()), comm_, request);
  });
  return message;
}

std::unique_ptr<Transport::Message> MpiTransport::ReduceScatterSum(const Tensor& in, const Tensor& out) {
  auto message = std::make_unique<MpiMessage>(*this, kEverybody);
  const int64_t n = out.elements();
  const MPI_Datatype type = TypeOf(in.dtype());
  const bool in_place = out.raw() == At(in, membership_.place * n);
  if (in.elements() > largest_count_) {
    for (int root = 0; root < static_cast<int>(membership_.ranks.size()); ++root) {
      const bool to_itself = in_place && root == membership_.place;
      Start(*message, "MPI_Ireduce", n, largest_count_, [&](int64_t begin, int count, MPI_Request* request) {
        return MPI_Ireduce(to_itself ? MPI_IN_PLACE : At(in, root * n + begin), At(out, begin), count, type,
                           SumOf(in.dtype()), root, comm_, request);
      });
    }
    return message;
  }
  Start(*message, "MPI_Ireduce_scatter_block", n, n, [&](int64_t, int count, MPI_Request* request) {
    return MPI_Ireduce_scatter_block(in_place ? MPI_IN_PLACE : in.raw(), in_place ? in.raw() : out.raw(), count, type,
                                     SumOf(in.dtype()), comm_, request);
  });
  // In place MPI leaves every rank's part at the beginning.
  if (in_place) message->at_end = [in, out] { std::memmove(out.raw(), in.raw(), static_cast<size_t>(out.bytes())); };
  return message;
}

std::unique_ptr<Transport::Message> MpiTransport::AllGather(const Tensor& x) {
  auto message = std::make_unique<MpiMessage>(*this, kEverybody);
  const auto ranks = static_cast<int64_t>(membership_.ranks.size());
  const int64_t n = x.elements() / ranks;
  const MPI_Datatype type = TypeOf(x.dtype());
  if (x.elements() > largest_count_) {
    for (int root = 0; root < ranks; ++root) {
      Start(*message, "MPI_Ibcast", n, largest_count_, [&](int64_t begin, int count, MPI_Request* request) {
        return MPI_Ibcast(At(x, root * n + begin), count, type, root, comm_, request);
      });
    }
    return message;
  }
  Start(*message, "MPI_Iallgather", n, n, [&](int64_t, int count, MPI_Request* request) {
    return MPI_Iallgather(MPI_IN_PLACE, count, type, x.raw(), count, type, comm_, request);
  });
  return message;
}

std::unique_ptr<Transport::Message> MpiTransport::Broadcast(const Tensor& x, int root) {
  auto message = std::make_unique<MpiMessage>(*this, kEverybody);
  Start(*message, "MPI_Ibcast", x.elements(), largest_count_, [&](int64_t begin, int n, MPI_Request* request) {
    return MPI_Ibcast(At(x, begin), n, TypeOf(x.dtype()), root, comm_, request);
  });
  return message;
}

bool MpiTransport::IsFar(int peer) const {
  const Hosts& hosts = *membership_.hosts;
  return hosts.of(membership_.ranks[static_cast<size_t>(peer)]) !=
         hosts.of(membership_.ranks[static_cast<size_t>(membership_.place)]);
}

void MpiTransport::Check(int error, const char* call, int peer) {
  if (error == MPI_SUCCESS) return;
  Abort("group \"" + membership_.group + "\": " + call + " of " + membership_.NameOf(membership_.place) + " with " +
        (peer == kEverybody ? "the others" : membership_.NameOf(peer)) + " failed: " + ErrorText(error));
}

}  // namespace trefoil
