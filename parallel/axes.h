// The axes of the mesh, as one table: all that differs between them. The mesh, its groups, the config's rules and
// defaults, the summary, the planner's search and the placement of parameters are derived from it.
//
//   for (const AxisEntry& axis : Axes()) total *= (parallel.*axis.size)();      // ranks of the job
//
// A new axis is an enumerator here, an entry of the table (parallel/axes.cc) and its field in parallel/parallel.proto;
// then whatever is split over it says so: parameters (parallel/parameter.h), tokens or samples (the layers).
//
// Threads: immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>

#include "parallel/parallel.pb.h"

namespace trefoil {

enum class Axis { kTensor, kContext, kPipeline, kData };
inline constexpr int kAxes = 4;

// What the ranks along an axis share out among them.
enum class AxisSplits {
  kMatrices,  // of each layer: heads, feed-forward columns, vocabulary
  kTokens,    // of each sample: each rank has the whole network, or a share of the optimizer's state (ZeRO)
  kPieces,    // of the network: each rank has some of them
  kSamples,   // of the batch: each rank has the whole network, or a share of the optimizer's state (ZeRO)
};

struct AxisEntry {
  Axis axis;
  const char* name;  // of its field in ParallelConfig, and of its groups
  int order;         // in the rank's number: 0 is innermost, neighbours along it are neighbouring ranks
  AxisSplits splits;
  // The field.
  int32_t (ParallelConfig::*size)() const;
  void (ParallelConfig::*set_size)(int32_t size);
  bool takes_rest;  // where the config leaves its size open, it is what is left of the ranks; else 1
  bool special;     // most runs do without it: texts and names leave it out where its size is 1
};

// In the order of texts: "tensor 2 x pipeline 2 x data 2".
std::span<const AxisEntry> Axes();
const AxisEntry& EntryOf(Axis axis);

// "tensor 2 x pipeline 2 x data 2"; "tensor 2 x context 4 x pipeline 2 x data 2".
std::string MeshText(const ParallelConfig& parallel);
// The product of their sizes; 0 if one is 0, at most 2^62.
int64_t RanksOfMesh(const ParallelConfig& parallel);

// Calls visit with `base` at every choice of sizes, each at least 1, whose product is `ranks`; the last of Axes()
// varies fastest. `allowed`, if set, is asked first whether an axis may have a size: what depends on that alone is cut
// off early.
void ForEachMesh(int ranks, const ParallelConfig& base, const std::function<void(const ParallelConfig&)>& visit,
                 const std::function<bool(const AxisEntry& axis, int size)>& allowed = nullptr);

// Some of the axes.
class AxisSet {
 public:
  constexpr AxisSet() = default;
  constexpr AxisSet(Axis axis) : bits_(1u << static_cast<int>(axis)) {}
  constexpr AxisSet(std::initializer_list<Axis> axes) {
    for (const Axis axis : axes) bits_ |= AxisSet(axis).bits_;
  }
  static AxisSet All();
  // Those whose entry says so.
  static AxisSet Of(AxisSplits splits);

  constexpr bool contains(Axis axis) const { return (bits_ & AxisSet(axis).bits_) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr AxisSet operator|(AxisSet other) const { return FromBits(bits_ | other.bits_); }
  constexpr AxisSet operator&(AxisSet other) const { return FromBits(bits_ & other.bits_); }
  constexpr AxisSet operator-(AxisSet other) const { return FromBits(bits_ & ~other.bits_); }
  constexpr auto operator<=>(const AxisSet&) const = default;

 private:
  static constexpr AxisSet FromBits(uint32_t bits) {
    AxisSet set;
    set.bits_ = bits;
    return set;
  }
  uint32_t bits_ = 0;
};

}  // namespace trefoil
