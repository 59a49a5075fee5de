#include "parallel/placement.h"

#include <glog/logging.h>

#include <algorithm>
#include <tuple>

namespace trefoil {
namespace {

constexpr int64_t kAlignment = 32;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Elements of the largest slice over the axes that split it: every rank leaves that much room, so that a bucket has one
// layout on all of them even where a dim does not divide evenly.
int64_t Room(const Parameter& parameter, const Mesh& mesh) {
  int64_t room = 1;
  for (int dim = 0; dim < parameter.shape.rank(); ++dim) {
    int64_t n = parameter.shape[dim];
    for (const ParameterSplit& split : parameter.splits) {
      if (split.dim == dim) n = (n + mesh.size(split.axis) - 1) / mesh.size(split.axis);
    }
    room *= n;
  }
  return room;
}

// Parameters that lie back to back wherever they lie: one that is not fused and those that are with it.
struct Run {
  size_t first = 0, count = 0;  // entries of the bucket
  int64_t room = 0;
};

std::vector<Run> RunsOf(const Bucket& bucket, const Mesh& mesh) {
  std::vector<Run> runs;
  for (size_t i = 0; i < bucket.entries.size(); ++i) {
    const Parameter& parameter = *bucket.entries[i].parameter;
    if (!parameter.fused_with_previous || runs.empty()) runs.push_back({.first = i});
    ++runs.back().count;
    runs.back().room += Room(parameter, mesh);
  }
  return runs;
}

// Gives the entries of a run their places from `begin` on; returns the end, rounded up.
int64_t Lay(const Run& run, int64_t begin, const Mesh& mesh, Bucket* bucket) {
  for (size_t i = run.first; i < run.first + run.count; ++i) {
    bucket->entries[i].begin = begin;
    begin += Room(*bucket->entries[i].parameter, mesh);
  }
  return RoundUp(begin, kAlignment);
}

void LayInOrder(int shares, const Mesh& mesh, Bucket* bucket) {
  int64_t end = 0;
  for (const Run& run : RunsOf(*bucket, mesh)) end = Lay(run, end, mesh, bucket);
  bucket->elements = RoundUp(end, kAlignment * shares);
}

// The largest run first, each to the share that has least; of equals the first, so that every rank finds the same.
void LayWhole(int shares, const Mesh& mesh, Bucket* bucket) {
  std::vector<Run> runs = RunsOf(*bucket, mesh);
  std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.room > b.room; });
  std::vector<int64_t> filled(static_cast<size_t>(shares));
  std::vector<std::vector<Run>> of_share(filled.size());
  for (const Run& run : runs) {
    const auto least = std::min_element(filled.begin(), filled.end());
    *least += RoundUp(run.room, kAlignment);
    of_share[static_cast<size_t>(least - filled.begin())].push_back(run);
  }
  const int64_t share = *std::max_element(filled.begin(), filled.end());
  for (size_t i = 0; i < of_share.size(); ++i) {
    int64_t at = share * static_cast<int64_t>(i);
    for (const Run& run : of_share[i]) at = Lay(run, at, mesh, bucket);
  }
  bucket->elements = share * shares;
  std::sort(bucket->entries.begin(), bucket->entries.end(),
            [](const BucketEntry& a, const BucketEntry& b) { return a.begin < b.begin; });
}

}  // namespace

Box SliceOf(const Parameter& parameter, const Mesh& mesh) {
  Box box;
  for (int dim = 0; dim < parameter.shape.rank(); ++dim) {
    const int64_t n = parameter.shape[dim];
    int64_t begin = 0, end = n;
    for (const ParameterSplit& split : parameter.splits) {
      if (split.dim != dim) continue;
      begin = SplitBegin(n, mesh.size(split.axis), mesh.index(split.axis));
      end = SplitBegin(n, mesh.size(split.axis), mesh.index(split.axis) + 1);
    }
    box.offset.push_back(begin);
    box.extent.push_back(end - begin);
  }
  return box;
}

Sharing SharingOf(const Mesh& mesh, AxisSet replicas, int copies) {
  Sharing sharing = {.copies = replicas.contains(Axis::kData) ? copies : 1};
  CHECK_EQ(mesh.size(replicas) % sharing.copies, 0) << copies << " copies";
  sharing.shares = mesh.size(replicas) / sharing.copies;
  sharing.copy = mesh.index(replicas) / sharing.shares;
  sharing.share = mesh.index(replicas) % sharing.shares;
  return sharing;
}

std::vector<Bucket> PlaceParameters(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& modules,
                                    const OptimizerLayout& optimizer, bool split_optimizer, int copies) {
  const auto key = [](const Bucket& b) {
    return std::tuple(b.module, b.tied_modules, b.replicas, b.optimizer_group, b.trained);
  };
  std::vector<Bucket> buckets;
  for (const Parameter& parameter : table.all()) {
    const Bucket wanted = {.module = parameter.module,
                           .tied_modules = parameter.tied_modules,
                           .replicas = parameter.replicated_over(),
                           .optimizer_group = optimizer.GroupOf(parameter),
                           .trained = parameter.trained(),
                           .entries = {}};
    if (std::none_of(modules.begin(), modules.end(), [&](int module) { return wanted.UsedBy(module); })) continue;
    auto bucket = std::find_if(buckets.begin(), buckets.end(), [&](const Bucket& b) { return key(b) == key(wanted); });
    if (bucket == buckets.end()) bucket = buckets.insert(buckets.end(), wanted);
    bucket->entries.push_back({.parameter = &parameter, .box = SliceOf(parameter, mesh)});
  }
  for (Bucket& bucket : buckets) {
    const int shares = SharingOf(mesh, bucket.replicas, copies).shares;
    const bool whole = split_optimizer && optimizer.groups[bucket.optimizer_group].whole_parameters;
    whole ? LayWhole(shares, mesh, &bucket) : LayInOrder(shares, mesh, &bucket);
  }
  std::sort(buckets.begin(), buckets.end(), [&](const Bucket& a, const Bucket& b) { return key(a) < key(b); });
  return buckets;
}

std::vector<Piece> PiecesOf(const Bucket& bucket, int64_t begin, int64_t end) {
  std::vector<Piece> pieces;
  for (const BucketEntry& entry : bucket.entries) {
    const int64_t from = std::max(begin, entry.begin), to = std::min(end, entry.end());
    if (from >= to) continue;
    int64_t at = from;
    for (const Box& box : Flatten(entry.box, from - entry.begin, to - entry.begin)) {
      pieces.push_back({.parameter = entry.parameter, .box = box, .begin = at});
      at += box.extent.elements();
    }
  }
  return pieces;
}

}  // namespace trefoil
