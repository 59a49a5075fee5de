#include "data/tasks/length_order.h"

#include <glog/logging.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "runtime/random.h"

namespace trefoil {

LengthOrder::LengthOrder(int64_t size, std::function<int64_t(int64_t)> length, int64_t batch, uint64_t seed)
    : length_(std::move(length)),
      batch_(batch),
      sampler_(size, seed),
      batches_seed_(RandomKey(seed, "length_order.batches")) {
  CHECK_GE(batch, 1);
}

int64_t LengthOrder::Index(int64_t k) const {
  const int64_t size = sampler_.size();
  const int64_t epoch = k - k % size;
  // Whole batches of the epoch: numbers [begin, end) of the run.
  const int64_t begin = (epoch + batch_ - 1) / batch_ * batch_;
  const int64_t end = (epoch + size) / batch_ * batch_;
  if (k < begin || k >= end) return sampler_.Index(k);
  const int64_t window = batch_ * kWindow;
  const int64_t first = k - (k - begin) % window;
  return (*Window(first, std::min(window, end - first)))[static_cast<size_t>(k - first)];
}

LengthOrder::Samples LengthOrder::Window(int64_t first, int64_t count) const {
  const std::lock_guard lock(mutex_);
  if (kept_[1].first == first) std::swap(kept_[0], kept_[1]);
  if (kept_[0].first != first) {
    kept_[1] = std::exchange(kept_[0], {first, std::make_shared<const std::vector<int64_t>>(Sort(first, count))});
  }
  return kept_[0].samples;
}

std::vector<int64_t> LengthOrder::Sort(int64_t first, int64_t count) const {
  std::vector<std::tuple<int64_t, int64_t, int64_t>> samples;  // length, number in the run, index
  samples.reserve(static_cast<size_t>(count));
  for (int64_t k = first; k < first + count; ++k) {
    const int64_t index = sampler_.Index(k);
    samples.emplace_back(length_(index), k, index);
  }
  std::sort(samples.begin(), samples.end());
  const int64_t batches = count / batch_;
  const Sampler order(batches, batches_seed_);
  std::vector<int64_t> sorted;
  sorted.reserve(samples.size());
  for (int64_t b = 0; b < batches; ++b) {
    // Each window is an epoch of its own to the sampler of batches.
    const int64_t from = order.Index(first / batch_ * batches + b) * batch_;
    for (int64_t i = 0; i < batch_; ++i) sorted.push_back(std::get<2>(samples[static_cast<size_t>(from + i)]));
  }
  return sorted;
}

}  // namespace trefoil
