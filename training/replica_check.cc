#include "training/replica_check.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "training/checksum.h"

namespace trefoil {
namespace {

// Something that every rank of a group holds a copy of: the same name and size on each.
struct Copy {
  std::string name;  // "blocks.0.mlp_norm.weight", "adam.m/blocks.0.mlp_norm.weight"
  Tensor elements;   // flat
};

// Adds the parameters' elements in a buffer that starts at element `start` of its bucket, of those that `copied_over`
// do not split.
void AddCopies(const BucketMemory& memory, const Tensor& buffer, int64_t start, const std::string& prefix,
               AxisSet copied_over, std::vector<Copy>* copies) {
  const int64_t stop = start + buffer.elements();
  for (const BucketEntry& entry : memory.bucket.entries) {
    const int64_t begin = std::max(entry.begin, start), end = std::min(entry.end(), stop);
    if (begin >= end || !(entry.parameter->split_over() & copied_over).empty()) continue;
    copies->push_back({prefix + entry.parameter->name, buffer.Range(begin - start, {end - begin})});
  }
}

void AddWeights(const BucketMemory& memory, AxisSet copied_over, std::vector<Copy>* copies) {
  const bool split = memory.split_weights;
  AddCopies(memory, split ? memory.weight_shard : memory.weights, split ? memory.shard_begin : 0, "", copied_over,
            copies);
}

void AddOptimizerState(const Worker& worker, const BucketMemory& memory, AxisSet copied_over,
                       std::vector<Copy>* copies) {
  // Where the working weights are float32 they are the master weights.
  if (worker.store.working_dtype() != DType::kFloat32) {
    AddCopies(memory, memory.master, memory.shard_begin, "master/", copied_over, copies);
  }
  for (size_t i = 0; i < memory.state.size(); ++i) {
    const std::string prefix = worker.store.OptimizerGroupOf(memory).state[i] + "/";
    AddCopies(memory, memory.state[i], memory.shard_begin, prefix, copied_over, copies);
  }
}

// Of the buckets that have these replicas.
std::vector<Copy> CopiesOverReplicas(Worker& worker, AxisSet replicas) {
  std::vector<Copy> copies;
  for (const BucketMemory& memory : worker.store.buckets()) {
    if (memory.bucket.replicas != replicas) continue;
    if (!memory.split_weights) AddWeights(memory, AxisSet(), &copies);
    const bool whole = memory.shard_elements() == memory.bucket.elements;
    if (whole) AddOptimizerState(worker, memory, AxisSet(), &copies);
  }
  return copies;
}

// Of those that are shared out in several copies, this rank's share.
std::vector<Copy> CopiesOfShares(Worker& worker, AxisSet replicas) {
  std::vector<Copy> copies;
  for (const BucketMemory& memory : worker.store.buckets()) {
    if (memory.bucket.replicas != replicas) continue;
    if (memory.split_weights) AddWeights(memory, AxisSet(), &copies);
    AddOptimizerState(worker, memory, AxisSet(), &copies);
  }
  return copies;
}

std::vector<Copy> CopiesOverTensor(Worker& worker) {
  std::vector<Copy> copies;
  for (const BucketMemory& memory : worker.store.buckets()) {
    AddWeights(memory, Axis::kTensor, &copies);
    AddOptimizerState(worker, memory, Axis::kTensor, &copies);
  }
  return copies;
}

std::vector<Copy> CopiesOverTied(Worker& worker, const Group* stages) {
  std::vector<Copy> copies;
  for (const BucketMemory& memory : worker.store.buckets()) {
    if (worker.tied.Of(memory.bucket) != stages) continue;
    AddWeights(memory, AxisSet(), &copies);
    AddOptimizerState(worker, memory, AxisSet(), &copies);
  }
  return copies;
}

// "blocks.0.mlp_norm.weight: rank 2 on node7 holds other values than the other 3 ranks of the data group, ...".
std::string Difference(Group& group, const Copy& copy, uint64_t checksum) {
  const std::vector<std::string> lines =
      group.AllGatherStrings(std::to_string(checksum) + " " + group.membership().NameOf(group.rank()));
  std::map<std::string, std::vector<std::string>> holders;  // by checksum
  size_t most = 0;
  for (const std::string& line : lines) {
    const size_t space = line.find(' ');
    std::vector<std::string>& with_it = holders[line.substr(0, space)];
    with_it.push_back(line.substr(space + 1));
    most = std::max(most, with_it.size());
  }
  const auto ties =
      std::count_if(holders.begin(), holders.end(), [&](const auto& holder) { return holder.second.size() == most; });
  const bool minority = ties == 1;  // there is one to be named
  std::vector<std::string> named;
  for (const auto& [sum, ranks] : holders) {
    if (!minority || ranks.size() < most) named.insert(named.end(), ranks.begin(), ranks.end());
  }
  const char* verb = named.size() == 1 ? " holds" : " hold";
  const std::string rule =
      minority ? absl::StrCat(verb, " other values than the other ", most, " ranks of the ", group.name(), " group")
               : absl::StrCat(" of the ", group.name(), " group hold different values");
  return absl::StrCat(copy.name, ": ", absl::StrJoin(named, ", "), rule,
                      ", but all copies must be equal to the bit. A memory or a processor there may be faulty, or the "
                      "hosts may compute by different instructions");
}

// What differs first; empty if nothing does.
std::string CompareOver(Device& device, Group* group, const std::vector<Copy>& copies) {
  if (group == nullptr || group->size() == 1) return "";
  // For each checksum, its halves, and their negatives, so that one maximum gives the largest and the smallest.
  std::vector<uint64_t> checksums;
  std::vector<double> numbers;
  for (const Copy& copy : copies) {
    const uint64_t sum = checksums.emplace_back(Checksum(device, copy.elements));
    const auto high = static_cast<double>(sum >> 32), low = static_cast<double>(sum & 0xffffffff);
    numbers.insert(numbers.end(), {high, -high, low, -low});
  }
  group->AllReduceMax(numbers);
  for (size_t i = 0; i < copies.size(); ++i) {
    const double* four = &numbers[4 * i];
    if (four[0] != -four[1] || four[2] != -four[3]) return Difference(*group, copies[i], checksums[i]);
  }
  return "";
}

}  // namespace

absl::Status CompareReplicas(Worker& worker) {
  std::string first;
  const auto compare = [&](Group* group, const std::vector<Copy>& copies) {
    const std::string found = CompareOver(worker.device, group, copies);
    if (first.empty()) first = found;
  };
  std::set<AxisSet> replicas;
  for (const Parameter& parameter : worker.table.all()) replicas.insert(parameter.replicated_over());
  for (const AxisSet axes : replicas) {
    compare(&worker.groups[axes], CopiesOverReplicas(worker, axes));
    if (Group* const copies = worker.groups.Copies(axes)) compare(copies, CopiesOfShares(worker, axes));
  }
  compare(worker.tensor, CopiesOverTensor(worker));
  for (Group* const stages : worker.tied.all()) compare(stages, CopiesOverTied(worker, stages));
  double differs = first.empty() ? 0 : 1;
  worker.all->AllReduceMax(std::span(&differs, 1));
  if (differs == 0) return absl::OkStatus();
  std::vector<std::string> found = worker.all->AllGatherStrings(first);
  std::erase(found, "");
  return absl::DataLossError(found.front());
}

}  // namespace trefoil
