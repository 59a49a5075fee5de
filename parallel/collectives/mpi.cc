// Ranks as MPI processes. Every group has a communicator of its own, so messages of different groups never mix.
#include <mpi.h>

#include <cstdlib>
#include <limits>
#include <map>
#include <numeric>

#include "parallel/collectives/library_group.h"
#include "parallel/collectives/mpi_progress.h"
#include "parallel/collectives/mpi_transport.h"
#include "parallel/collectives/world.h"

namespace trefoil {
namespace {

class MpiWorld : public World {
 public:
  MpiWorld(int* argc, char*** argv, const MpiOptions& options) : options_(options) {
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
    all_ = NewGroupOver(all, "world", ranks, *host_, RankSums::kOrdered, patience_);
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

  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums sums) override {
    (void)PlaceInGroup(name, ranks, rank_);
    CHECK_LT(ranks.back(), size_) << "group " << name;
    return NewGroupOver(NewCommunicator(name, ranks), name, ranks, device, sums, patience_);
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) override {
    const std::vector<int>& ranks = all_->membership().ranks;
    return NewGroupOver(NewCommunicator(name, ranks), name, ranks, *host_, RankSums::kOrdered, patience_->In(phase));
  }
  Patience& patience() override { return *patience_; }

 private:
  static MPI_Comm NewCommunicator(const std::string& name, const std::vector<int>& ranks) {
    MPI_Group all, group;
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &group);
    MPI_Comm comm;
    MPI_Comm_create_group(MPI_COMM_WORLD, group, CreationTag(name, ranks), &comm);
    MPI_Group_free(&group);
    MPI_Group_free(&all);
    return comm;
  }

  std::unique_ptr<Group> NewGroupOver(MPI_Comm comm, const std::string& name, const std::vector<int>& ranks,
                                      Device& device, RankSums sums, std::shared_ptr<Patience> patience) const {
    const Membership membership = {.group = name,
                                   .ranks = ranks,
                                   .place = PlaceInGroup(name, ranks, rank_),
                                   .hosts = hosts_,
                                   .patience = std::move(patience)};
    auto transport = std::make_unique<MpiTransport>(membership, comm, *progress_, options_.largest_count);
    if (sums == RankSums::kFastest) return std::make_unique<LibraryGroup>(membership, device, std::move(transport));
    SumSegments segments = SegmentsOfMessages(static_cast<int>(ranks.size()));
    if (options_.direct_ranks.has_value()) {
      segments.direct_ranks = *options_.direct_ranks;
      segments.direct_bytes = std::numeric_limits<int64_t>::max();
    }
    return std::make_unique<PointToPointGroup>(membership, device, std::move(transport), segments);
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

  const MpiOptions options_;
  bool finalize_ = false;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::shared_ptr<const Hosts> hosts_;
  const std::shared_ptr<Patience> patience_ = std::make_shared<Patience>();
  const std::unique_ptr<Device> host_ = NewCpuDevice(/*threads=*/1);
  std::unique_ptr<MpiProgress> progress_ = std::make_unique<MpiProgress>();
  std::unique_ptr<Group> all_;
};

}  // namespace

std::unique_ptr<World> NewMpiWorld(int* argc, char*** argv, const MpiOptions& options) {
  return std::make_unique<MpiWorld>(argc, argv, options);
}

}  // namespace trefoil
