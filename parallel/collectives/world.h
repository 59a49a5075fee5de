// All ranks of the job, and how groups of them are made. The one thing that knows how ranks reach each other: through
// MPI, as threads of one process (for tests), or not at all (one rank; or a null world, for planning).
//
//   std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
//   auto group = world->NewGroup("tensor", mesh.Group({Axis::kTensor}), *device);
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "parallel/collectives/rounds.h"

namespace trefoil {

class World {
 public:
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Among the ranks on this host: for choosing cores and devices.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  const std::string& host_of(int rank) const { return hosts().of(rank); }
  virtual const Hosts& hosts() const = 0;
  // All ranks, for numbers and texts on the host: made with the world, ready at once. Tensors passed to it live in the
  // host's memory.
  virtual Group& all() = 0;
  // A group of `ranks` (ascending, containing this rank). Every member calls this with the same arguments, and members
  // of several groups make them in one order. Tensors passed to the group live on `device`; the device and this world
  // must outlive the group. `sums` are of tensors: numbers and texts on the host are the same with both.
  virtual std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                          RankSums sums = RankSums::kOrdered) = 0;
  // Another group as all(), for a thread beside the main one: its waits have the limits of `phase`, whatever the job is
  // doing.
  virtual std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) = 0;
  // All ranks.
  std::unique_ptr<Group> NewGroupOfAll(Device& device, RankSums sums = RankSums::kOrdered);
  // How long a rank waits for another before it ends the job.
  virtual Patience& patience() = 0;
  // The same whatever the job is doing.
  void set_timeout_seconds(double seconds) { patience().set_seconds(seconds); }
};

// For comparisons and tests.
struct MpiOptions {
  // How many ranks exchange directly, whatever the bytes; else as SegmentsOfMessages says
  // (parallel/collectives/sum_buffer.h).
  std::optional<int> direct_ranks = std::nullopt;
  // Elements of one collective of MPI, which counts in int; more are done in pieces.
  int largest_count = std::numeric_limits<int>::max();
};
// The ranks that mpirun or srun started; a program started by hand is a world of one. Initialises MPI with
// MPI_THREAD_MULTIPLE; finalises it when destroyed: at most one per process, or any number where the caller did both.
std::unique_ptr<World> NewMpiWorld(int* argc, char*** argv, const MpiOptions& options = {});

// Runs body(world) on `ranks` threads of this process, rank by rank, and returns when all have returned. A rank that
// waits longer than its time-out CHECK-fails the process, and so does a group of RankSums::kFastest.
struct ThreadRanks {
  // hosts[r]: where rank r says that it is. Empty: all on "localhost".
  std::vector<std::string> hosts = {};
  // A send is done when its receiver has taken it, out of the sender's own memory, as long messages are by MPI. Otherwise
  // it is copied and done at once, as short ones are. A correct program cannot tell which.
  bool rendezvous = false;
};
void RunRanksAsThreads(int ranks, const std::function<void(World&)>& body, const ThreadRanks& options = {});

// `world` for tensors whose memory its messages cannot reach: each is copied to the host, sent or reduced there, and
// copied back. Any device; slow. `world` outlives what is returned.
std::unique_ptr<World> NewStagedWorld(World& world);

// Rank `rank` of `size` ranks that are not there: collectives check sizes, count bytes and allocate memory as those of
// the world that it stands for do, byte for byte, and never wait. Sums are what this rank gave; what it gathers or
// receives from others is zeros; their texts are this rank's, and every rank gathers them as rank 0 does; all are on
// host "nowhere". `observer` is shown every call on tensors, sends and receives included, before it is made; on the
// thread that makes it.
enum class StandsFor { kMessages, kNccl };  // MPI and threads; NCCL (parallel/collectives/nccl/nccl.h)
struct GroupCall {
  const std::string& group;         // its name
  const std::vector<int>& members;  // its world ranks
  const char* operation;            // static, "AllReduceSum"
  double bytes;                     // of the larger of its tensors: all parts of a gather, say
  Exchanges exchanges;              // of which it is made; of a receive none
};
using GroupObserver = std::function<void(const GroupCall& call)>;
std::unique_ptr<World> NewNullWorld(int size, int rank, GroupObserver observer = nullptr,
                                    StandsFor stands_for = StandsFor::kMessages);

}  // namespace trefoil
