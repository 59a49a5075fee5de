// One kernel for many tensors: a table of them among its parameters, from which each block takes the entry it works on.
// For .cu files.
//
//   struct Entry { float* x; int64_t n; int first_block = 0; };
//   __global__ void ScaleKernel(const Table<Entry> table) { const Entry entry = EntryOfBlock(table); ... }
//
//   TableLauncher<Entry> tables([&](const Table<Entry>& table, int64_t blocks) {
//     Launch(cuda, ScaleKernel, GridSize(blocks), 256, 0, table);
//   });
//   for (const Tensor& x : xs) tables.Add({.x = x.data<float>(), .n = x.elements()}, Blocks(x.elements(), 4096));
//   tables.Finish();
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <utility>

namespace trefoil::cuda {

// Entries in order of first_block, the first of the blocks that work on them. Parameters take 4 KiB at most on every
// GPU, and a kernel may have some beside its table.
template <typename Entry>
struct Table {
  static constexpr int kMost = 3840 / static_cast<int>(sizeof(Entry));
  Entry entries[kMost];
  int count;
};

// The last entry that starts at or before the calling block.
template <typename Entry>
__device__ inline const Entry& EntryOfBlock(const Table<Entry>& table) {
  int low = 0, high = table.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.entries[middle].first_block <= static_cast<int>(blockIdx.x)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return table.entries[low];
}

// Collects entries and calls launch(table, blocks) whenever a table is full, and for the rest.
template <typename Entry>
class TableLauncher {
 public:
  using LaunchTable = std::function<void(const Table<Entry>&, int64_t blocks)>;

  explicit TableLauncher(LaunchTable launch) : launch_(std::move(launch)) {}

  // An entry for `blocks` blocks; none for no block. Fills in its first_block.
  void Add(Entry entry, int64_t blocks) {
    if (blocks == 0) return;
    if (table_.count == Table<Entry>::kMost) Finish();
    entry.first_block = static_cast<int>(blocks_);
    table_.entries[table_.count++] = entry;
    blocks_ += blocks;
  }
  void Finish() {
    if (table_.count == 0) return;
    launch_(table_, blocks_);
    table_.count = 0;
    blocks_ = 0;
  }

 private:
  const LaunchTable launch_;
  Table<Entry> table_ = {};
  int64_t blocks_ = 0;
};

}  // namespace trefoil::cuda
