// Ranks as MPI processes. Every group has a communicator of its own, so messages of different groups never mix.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "parallel/collectives/mpi_progress.h"
#include "parallel/collectives/point_to_point_group.h"
#include "parallel/collectives/world.h"

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

class MpiTransport : public Transport {
 public:
  // Takes over the communicator. `progress` outlives it.
  MpiTransport(const Membership& membership, MPI_Comm comm, MpiProgress& progress)
      : membership_(membership), comm_(comm), progress_(progress) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    int *value = nullptr, found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &value, &found);
    CHECK(found);
    largest_tag_ = *value;
  }
  ~MpiTransport() override { MPI_Comm_free(&comm_); }

  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override {
    return Start(to, tag, bytes, [&](int64_t begin, int n, MPI_Request* request) {
      return MPI_Isend(static_cast<const char*>(data) + begin, n, MPI_BYTE, to, tag, comm_, request);
    });
  }
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override {
    auto message = Start(from, tag, bytes, [&](int64_t begin, int n, MPI_Request* request) {
      return MPI_Irecv(static_cast<char*>(data) + begin, n, MPI_BYTE, from, tag, comm_, request);
    });
    message->expected = bytes;
    return message;
  }
  bool Wait(Message& message, Clock::time_point deadline) override {
    Pauses pauses;
    while (!message.Done()) {
      if (!pauses.Pause(deadline)) return false;
    }
    return true;
  }
  bool moves() const override { return true; }
  [[noreturn]] void Abort(const std::string& message) override {
    LOG(ERROR) << message;
    google::FlushLogFiles(google::GLOG_INFO);
    MPI_Abort(MPI_COMM_WORLD, 1);
    std::abort();
  }

 private:
  class MpiMessage : public Message {
   public:
    MpiMessage(MpiTransport& transport, int peer) : transport_(transport), peer_(peer) {}
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
      return true;
    }
    // Between hosts; on one host the receiver fetches the message alone.
    void MoveAlone() override {
      if (watched_ || !transport_.IsFar(peer_) || Done()) return;
      watched_ = true;
      transport_.progress_.Watch(*this);
    }
    std::vector<MPI_Request> requests;
    int64_t expected = -1;  // bytes, of a receive

   private:
    MpiTransport& transport_;
    const int peer_;
    bool watched_ = false;
    std::mutex mutex_;  // of what follows
    size_t next_ = 0;  // the first request that may not be done
    int64_t received_ = 0;
  };

  template <typename StartPiece>
  std::unique_ptr<MpiMessage> Start(int peer, int tag, int64_t bytes, const StartPiece& start_piece) {
    CHECK_LE(tag, largest_tag_) << "group \"" << membership_.group << "\": MPI's largest tag";
    auto message = std::make_unique<MpiMessage>(*this, peer);
    int64_t begin = 0;
    do {
      const int n = static_cast<int>(std::min(bytes - begin, kLargestPiece));
      message->requests.emplace_back();
      Check(start_piece(begin, n, &message->requests.back()), "MPI_Isend or MPI_Irecv", peer);
      begin += n;
    } while (begin < bytes);
    return message;
  }

  bool IsFar(int peer) const {
    const Hosts& hosts = *membership_.hosts;
    return hosts.of(membership_.ranks[static_cast<size_t>(peer)]) !=
           hosts.of(membership_.ranks[static_cast<size_t>(membership_.place)]);
  }

  void Check(int error, const char* call, int peer) {
    if (error == MPI_SUCCESS) return;
    Abort("group \"" + membership_.group + "\": " + call + " of " + membership_.NameOf(membership_.place) + " with " +
          membership_.NameOf(peer) + " failed: " + ErrorText(error));
  }

  const Membership membership_;
  MPI_Comm comm_;
  MpiProgress& progress_;
  int largest_tag_ = 0;
};

class MpiWorld : public World {
 public:
  MpiWorld(int* argc, char*** argv, std::optional<int> direct_ranks) : direct_ranks_(direct_ranks) {
    int initialized = 0, provided = 0;
    MPI_Initialized(&initialized);
    if (initialized) {
      MPI_Query_thread(&provided);
    } else {
      // A program started by hand needs no helper process beside it to be a world of one.
      setenv("OMPI_MCA_ess_singleton_isolated", "1", /*overwrite=*/0);
      MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided);
      finalize_ = true;
    }
    CHECK_GE(provided, static_cast<int>(MPI_THREAD_MULTIPLE)) << "MPI does not let several threads send";
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm local;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local);
    MPI_Comm_rank(local, &local_rank_);
    MPI_Comm_size(local, &local_size_);
    int first = rank_;  // of this host
    MPI_Bcast(&first, 1, MPI_INT, 0, local);
    MPI_Comm_free(&local);
    hosts_ = GatherHosts(first);
    MPI_Comm all;
    MPI_Comm_dup(MPI_COMM_WORLD, &all);
    std::vector<int> ranks(static_cast<size_t>(size_));
    std::iota(ranks.begin(), ranks.end(), 0);
    all_ = NewGroupOver(all, "world", ranks, *host_);
  }
  ~MpiWorld() override {
    all_.reset();
    progress_.reset();
    if (finalize_) MPI_Finalize();
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  const Hosts& hosts() const override { return *hosts_; }
  Group& all() override { return *all_; }

  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device) override {
    (void)PlaceInGroup(name, ranks, rank_);
    CHECK_LT(ranks.back(), size_) << "group " << name;
    MPI_Group all, group;
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &group);
    MPI_Comm comm;
    MPI_Comm_create_group(MPI_COMM_WORLD, group, CreationTag(name, ranks), &comm);
    MPI_Group_free(&group);
    MPI_Group_free(&all);
    return NewGroupOver(comm, name, ranks, device);
  }
  Patience& patience() override { return *patience_; }

 private:
  std::unique_ptr<Group> NewGroupOver(MPI_Comm comm, const std::string& name, const std::vector<int>& ranks,
                                      Device& device) const {
    const Membership membership = {.group = name,
                                   .ranks = ranks,
                                   .place = PlaceInGroup(name, ranks, rank_),
                                   .hosts = hosts_,
                                   .patience = patience_};
    SumSegments segments = SegmentsOfMessages(static_cast<int>(ranks.size()));
    segments.direct_ranks = direct_ranks_.value_or(segments.direct_ranks);
    return std::make_unique<PointToPointGroup>(membership, device,
                                               std::make_unique<MpiTransport>(membership, comm, *progress_), segments);
  }

  // `first`: the lowest rank on this rank's host. Hosts that call themselves the same are told apart by it.
  std::shared_ptr<const Hosts> GatherHosts(int first) const {
    struct Place {
      char name[MPI_MAX_PROCESSOR_NAME];
      int first;
    };
    Place mine = {};
    int length = 0;
    MPI_Get_processor_name(mine.name, &length);
    mine.first = first;
    std::vector<Place> places(static_cast<size_t>(size_));
    MPI_Allgather(&mine, sizeof(Place), MPI_BYTE, places.data(), sizeof(Place), MPI_BYTE, MPI_COMM_WORLD);
    std::map<std::string, int> first_of_name;
    std::vector<std::string> names;
    for (const Place& place : places) {
      names.emplace_back(place.name);
      if (first_of_name.emplace(names.back(), place.first).first->second != place.first) {
        names.back() += " (another, of rank " + std::to_string(place.first) + ")";
      }
    }
    return std::make_shared<const Hosts>(std::move(names));
  }

  // The same at every member, and most likely another for another group: FNV-1a of name and ranks, in 15 bits, which
  // every MPI has.
  static int CreationTag(const std::string& name, const std::vector<int>& ranks) {
    uint32_t hash = 2166136261u;
    auto add = [&](uint32_t value) { hash = (hash ^ value) * 16777619u; };
    for (unsigned char c : name) add(c);
    for (int rank : ranks) add(static_cast<uint32_t>(rank));
    return static_cast<int>((hash ^ hash >> 15) & 0x7fff);
  }

  const std::optional<int> direct_ranks_;
  bool finalize_ = false;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::shared_ptr<const Hosts> hosts_;
  const std::shared_ptr<Patience> patience_ = std::make_shared<Patience>();
  const std::unique_ptr<Device> host_ = NewCpuDevice(/*threads=*/1);
  std::unique_ptr<MpiProgress> progress_ = std::make_unique<MpiProgress>();
  std::unique_ptr<Group> all_;
};

}  // namespace

std::unique_ptr<World> NewMpiWorld(int* argc, char*** argv, std::optional<int> direct_ranks) {
  return std::make_unique<MpiWorld>(argc, argv, direct_ranks);
}

}  // namespace trefoil
