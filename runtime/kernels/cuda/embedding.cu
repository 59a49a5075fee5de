#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// A block takes a row of y.
template <bool kAdd, typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    EmbeddingKernel(const int32_t* ids, const T* table, int64_t first_row, int64_t rows, int columns, T* y) {
  constexpr int W = A::kWidth;
  const int64_t row = ids[blockIdx.x] - first_row;
  const bool mine = 0 <= row && row < rows;
  if (kAdd && !mine) return;
  const T* from = table + row * columns;
  T* to = y + int64_t{blockIdx.x} * columns;
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    Pack<W> pack = {};
    if (mine) pack = Load<A>(from + j);
    if (kAdd) pack = Apply<W>([](float a, float b) { return a + b; }, Load<A>(to + j), pack);
    Store<A>(to + j, pack);
  }
}

// The backward gathers, for each row of the table, the numbers i of the ids that name it (its bucket), puts each bucket
// in order, and lets one thread per pack of columns add a bucket's rows of dy in that order: the work is N C, whatever
// V.
//
// Where a bucket lies in `members`, and in which order its members first arrive there, is a race of integer atomics;
// the sort takes the second away, and nothing depends on the first.
struct Buckets {
  int32_t* used;     // [1] places of `members` given to buckets so far
  int32_t* size;     // [V]
  int32_t* start;    // [V] place of the bucket's first member; unset where the size is 0
  int32_t* arrival;  // [N] i came as number arrival[i] of its bucket
  int32_t* members;  // [N] bucket after bucket
  int32_t* sorted;   // [N] the same, each bucket in ascending order
};

constexpr int kThreads = 128;

__device__ inline int64_t Thread() { return blockIdx.x * int64_t{kThreads} + threadIdx.x; }

__global__ void CountKernel(const int32_t* ids, int64_t count, int64_t first_row, int64_t rows, Buckets buckets) {
  const int64_t i = Thread();
  if (i >= count) return;
  const int64_t row = ids[i] - first_row;
  if (0 <= row && row < rows) buckets.arrival[i] = atomicAdd(buckets.size + row, 1);
}

__global__ void PlaceBucketsKernel(int64_t rows, Buckets buckets) {
  const int64_t row = Thread();
  if (row >= rows) return;
  const int32_t size = buckets.size[row];
  if (size > 0) buckets.start[row] = atomicAdd(buckets.used, size);
}

__global__ void PlaceMembersKernel(const int32_t* ids, int64_t count, int64_t first_row, int64_t rows,
                                   Buckets buckets) {
  const int64_t i = Thread();
  if (i >= count) return;
  const int64_t row = ids[i] - first_row;
  if (0 <= row && row < rows) buckets.members[buckets.start[row] + buckets.arrival[i]] = static_cast<int32_t>(i);
}

// A member's place is the number of smaller ones in its bucket.
__global__ void SortKernel(const int32_t* ids, int64_t count, int64_t first_row, int64_t rows, Buckets buckets) {
  const int64_t i = Thread();
  if (i >= count) return;
  const int64_t row = ids[i] - first_row;
  if (row < 0 || row >= rows) return;
  const int32_t start = buckets.start[row], size = buckets.size[row];
  int32_t smaller = 0;
#pragma unroll 8
  for (int32_t place = 0; place < size; ++place) smaller += buckets.members[start + place] < i ? 1 : 0;
  buckets.sorted[start + smaller] = static_cast<int32_t>(i);
}

// Block (i, y) takes the bucket of which i is the first member, if it is one, and the columns' y-th kThreads packs.
template <typename A, typename T>
__global__ void __launch_bounds__(kThreads)
    AddBucketsKernel(const int32_t* ids, const T* dy, int64_t first_row, int64_t rows, int64_t columns, Buckets buckets,
                     float* d_table) {
  constexpr int W = A::kWidth;
  const int64_t row = ids[blockIdx.x] - first_row;
  if (row < 0 || row >= rows) return;
  const int32_t* members = buckets.sorted + buckets.start[row];
  if (members[0] != static_cast<int32_t>(blockIdx.x)) return;
  const int64_t j = (blockIdx.y * int64_t{kThreads} + threadIdx.x) * W;
  if (j >= columns) return;
  const int32_t size = buckets.size[row];
  float* to = d_table + row * columns + j;
  Pack<W> sum = Load<A>(to);
#pragma unroll 4
  for (int32_t place = 0; place < size; ++place) {
    sum = Apply<W>([](float a, float b) { return a + b; }, sum, Load<A>(dy + members[place] * columns + j));
  }
  Store<A>(to, sum);
}

}  // namespace

void Embedding(const CudaContext& cuda, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate) {
  const int64_t rows = table.dim(0), columns = table.dim(1);
  if (y.elements() == 0) return;
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* source = table.data<T>();
    T* out = y.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(source, out), [&](auto access) {
      using A = decltype(access);
      const auto kernel = accumulate == Accumulate::kYes ? EmbeddingKernel<true, A, T> : EmbeddingKernel<false, A, T>;
      Launch(cuda, kernel, GridSize(y.dim(0)), RowThreads(columns, A::kWidth), 0, ids.data<int32_t>(), source,
             first_row, rows, RowIndex(columns), out);
    });
  });
}

void EmbeddingBackward(const CudaContext& cuda, const Tensor& ids, const Tensor& dy, int64_t first_row,
                       const Tensor& d_table) {
  const int64_t rows = d_table.dim(0), columns = d_table.dim(1), count = dy.dim(0);
  if (dy.elements() == 0 || rows == 0) return;
  const Workspace<int32_t> memory(cuda, 1 + 2 * rows + 3 * count);
  Buckets buckets = {};
  buckets.used = memory.data();
  buckets.size = buckets.used + 1;
  buckets.start = buckets.size + rows;
  buckets.arrival = buckets.start + rows;
  buckets.members = buckets.arrival + count;
  buckets.sorted = buckets.members + count;
  const int32_t* id = ids.data<int32_t>();
  const unsigned of_ids = GridSize(Blocks(count, kThreads)), of_rows = GridSize(Blocks(rows, kThreads));
  const auto zeroed = static_cast<size_t>(1 + rows) * sizeof(int32_t);  // used and size
  TREFOIL_CUDA(cudaMemsetAsync(memory.data(), 0, zeroed, cuda.stream));
  Launch(cuda, CountKernel, of_ids, kThreads, 0, id, count, first_row, rows, buckets);
  Launch(cuda, PlaceBucketsKernel, of_rows, kThreads, 0, rows, buckets);
  Launch(cuda, PlaceMembersKernel, of_ids, kThreads, 0, id, count, first_row, rows, buckets);
  Launch(cuda, SortKernel, of_ids, kThreads, 0, id, count, first_row, rows, buckets);
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* d = dy.data<T>();
    float* out = d_table.data<float>();
    WithAccess<W>(columns, Aligned<W>(d) && Aligned<W>(out), [&](auto access) {
      using A = decltype(access);
      const dim3 grid(GridSize(count), GridSize(Blocks(columns, kThreads * A::kWidth)));
      Launch(cuda, AddBucketsKernel<A, T>, grid, kThreads, 0, id, d, first_row, rows, columns, buckets, out);
    });
  });
}

}  // namespace trefoil::cuda
