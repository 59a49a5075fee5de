#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int W = kFullWidth<float>;

// A maximum of -infinity stands for no columns: then exp(x - maximum) must be 0, not NaN.
__device__ inline float Finite(float maximum) { return maximum == -kInfinity ? 0.0f : maximum; }

// What exp(x - from) must be multiplied with to be exp(x - to). 1 where both are infinite, and their difference a NaN.
__device__ inline float Rescale(float from, float to) { return from == to ? 1.0f : expf(from - to); }

// Which four columns of a row a thread takes in a round. In packs: neighbours. Else, where rows cannot be read so:
// every thread one column, four times; that way too, several loads are under way at once, and neighbours read
// neighbours.
template <typename A>
__device__ inline int Column(int round, int k) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  return A::kWidth == W ? (round * threads + thread) * W + k : (round * W + k) * threads + thread;
}
__device__ inline int Rounds(int columns) {
  const int per_round = static_cast<int>(blockDim.x) * W;
  return (columns + per_round - 1) / per_round;
}

// Behind the row's end -infinity, which adds nothing.
template <typename A>
__device__ inline Pack<W> LoadFour(const float* row, int columns, int round) {
  Pack<W> pack = {-kInfinity, -kInfinity, -kInfinity, -kInfinity};
  if constexpr (A::kWidth == W) {
    if (Column<A>(round, 0) < columns) pack = Load<A>(row + Column<A>(round, 0));
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (Column<A>(round, k) < columns) pack.v[k] = row[Column<A>(round, k)];
    }
  }
  return pack;
}

template <typename A, typename T>
__device__ inline void StoreFour(T* row, int columns, int round, const Pack<W>& pack) {
  if constexpr (A::kWidth == W) {
    if (Column<A>(round, 0) < columns) Store<A>(row + Column<A>(round, 0), pack);
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (Column<A>(round, k) < columns) StoreElement(row + Column<A>(round, k), pack.v[k]);
    }
  }
}

// A block takes a row and reads it once: each thread keeps the maximum so far and the sum of exp(x - maximum), scaled
// down whenever the maximum grows. Maxima leave out NaNs, sums become NaN. kSummed: a row has a fourth value, the sum of
// its logits.
template <typename A, bool kSummed>
__global__ void __launch_bounds__(kMaxRowThreads)
    StatisticsKernel(const float* logits, const int32_t* targets, int64_t first_column, int columns,
                     float* statistics) {
  const float* row = logits + int64_t{blockIdx.x} * columns;
  float maximum = -kInfinity, sum = 0, logit_sum = 0;
  const int rounds = Rounds(columns);
#pragma unroll 2
  for (int round = 0; round < rounds; ++round) {
    const Pack<W> x = LoadFour<A>(row, columns, round);
    const float before = maximum;
#pragma unroll
    for (int k = 0; k < W; ++k) maximum = fmaxf(maximum, x.v[k]);
    sum *= Rescale(before, maximum);
#pragma unroll
    for (int k = 0; k < W; ++k) sum += expf(x.v[k] - Finite(maximum));
    if constexpr (kSummed) {
#pragma unroll
      for (int k = 0; k < W; ++k) logit_sum += Column<A>(round, k) < columns ? x.v[k] : 0.0f;
    }
  }
  const float all = GroupMax(maximum);
  const float total = GroupSum(sum * Rescale(maximum, all));
  if constexpr (kSummed) logit_sum = GroupSum(logit_sum);
  if (threadIdx.x != 0) return;
  const int64_t target = targets[blockIdx.x] - first_column;
  float* out = statistics + int64_t{blockIdx.x} * (kSummed ? 4 : 3);
  out[0] = all;
  out[1] = total;
  out[2] = 0 <= target && target < columns ? row[target] : 0.0f;
  if constexpr (kSummed) out[3] = logit_sum;
}

// A thread takes a row. weights, correct: may be null. values: of a row's statistics, 4 with label smoothing.
__global__ void CombineKernel(const float* statistics, const float* weights, int64_t parts, int64_t rows, int values,
                              float share, float each, float vocabulary, float* loss, float* log_sum_exp,
                              float* correct) {
  const int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (i >= rows) return;
  float maximum = -kInfinity;
  for (int64_t part = 0; part < parts; ++part) maximum = fmaxf(maximum, statistics[(part * rows + i) * values]);
  const float shift = Finite(maximum);
  float sum = 0, target_logit = 0, logits = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const float* s = statistics + (part * rows + i) * values;
    sum += s[1] * expf(s[0] - shift);
    target_logit += s[2];
    if (values == 4) logits += s[3];
  }
  const float log_sum = shift + logf(sum);
  log_sum_exp[i] = log_sum;
  float value = log_sum - target_logit;
  if (values == 4) value = (1.0f - share - each) * value + each * (vocabulary * log_sum - logits);
  const float weight = weights == nullptr ? 1.0f : weights[i];
  loss[i] = weight == 0 ? 0.0f : weight * value;
  if (correct != nullptr) correct[i] = target_logit == maximum && weight > 0 ? 1.0f : 0.0f;
}

// A block takes a row. weights: may be null. share, each: of label smoothing.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    BackwardKernel(const float* logits, const int32_t* targets, const float* weights, const float* log_sum_exp,
                   int64_t first_column, float scale, float share, float each, int columns, T* d_logits) {
  const int64_t at = int64_t{blockIdx.x} * columns, target = targets[blockIdx.x] - first_column;
  const float shift = log_sum_exp[blockIdx.x];
  if (weights != nullptr) scale *= weights[blockIdx.x];
  const int rounds = Rounds(columns);
  for (int round = 0; round < rounds; ++round) {
    Pack<W> pack = LoadFour<A>(logits + at, columns, round);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const float difference = expf(pack.v[k] - shift) - (Column<A>(round, k) == target ? 1.0f - share : each);
      pack.v[k] = scale == 0 ? 0.0f : scale * difference;
    }
    StoreFour<A>(d_logits + at, columns, round, pack);
  }
}

const float* WeightsOf(const Tensor& weights) { return weights.defined() ? weights.data<float>() : nullptr; }

}  // namespace

void CrossEntropyStatistics(const CudaContext& cuda, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics) {
  const int64_t rows = logits.dim(0), columns = logits.dim(1);
  if (rows == 0) return;
  const float* in = logits.data<float>();
  WithAccess<W>(columns, Aligned<W>(in), [&](auto access) {
    using A = decltype(access);
    const auto kernel = statistics.dim(1) == 4 ? StatisticsKernel<A, true> : StatisticsKernel<A, false>;
    Launch(cuda, kernel, GridSize(rows), RowThreads(columns, W), 0, in, targets.data<int32_t>(), first_column,
           RowIndex(columns), statistics.data<float>());
  });
}

void CrossEntropyCombine(const CudaContext& cuda, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing, const Tensor& correct) {
  const int64_t parts = statistics.dim(0), rows = statistics.dim(1);
  if (rows == 0) return;
  Launch(cuda, CombineKernel, GridSize(Blocks(rows, 128)), 128, 0, statistics.data<float>(),
         WeightsOf(weights), parts, rows, static_cast<int>(statistics.dim(2)), smoothing.share, smoothing.each(),
         static_cast<float>(smoothing.vocabulary), loss.data<float>(), log_sum_exp.data<float>(),
         correct.defined() ? correct.data<float>() : nullptr);
}

void CrossEntropyBackward(const CudaContext& cuda, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing) {
  const int64_t rows = logits.dim(0), columns = logits.dim(1);
  if (logits.elements() == 0) return;
  const float* in = logits.data<float>();
  WithType(d_logits.dtype(), [&](auto type) {
    using T = decltype(type);
    T* out = d_logits.data<T>();
    WithAccess<W>(columns, Aligned<W>(in) && Aligned<W>(out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, BackwardKernel<A, T>, GridSize(rows), RowThreads(columns, W), 0, in, targets.data<int32_t>(),
             WeightsOf(weights), log_sum_exp.data<float>(), first_column, scale, smoothing.share, smoothing.each(),
             RowIndex(columns), out);
    });
  });
}

}  // namespace trefoil::cuda
