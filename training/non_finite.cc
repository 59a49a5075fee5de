#include "training/non_finite.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/ops.h"
#include "training/optimizer/optimizer.h"

namespace trefoil {
namespace {

// A tensor that is not finite, and its place in the order: by phase, layer, and place within the layer; then, for the
// same tensor, by micro-batch.
struct Found {
  enum Phase { kForward, kBackward, kWeightGradients };
  std::array<int, 4> order;
  std::string what;
};

class Search {
 public:
  explicit Search(Worker& worker)
      : worker_(worker), last_module_(static_cast<int>(ModulesOf(worker.config.model()).size()) - 1) {}

  // Each of the parameters' values in a buffer: all that this rank has of it.
  void Parameters(Tensor BucketMemory::*whole, Tensor BucketMemory::*shard, Found::Phase phase, const char* kind) {
    for (BucketMemory& memory : worker_.store.buckets()) {
      if (!(memory.*shard).defined()) continue;
      const bool split = phase == Found::kForward ? memory.split_weights : memory.split_gradients;
      const Tensor& buffer = split ? memory.*shard : memory.*whole;
      const int64_t start = split ? memory.shard_begin : 0, stop = start + buffer.elements();
      for (const BucketEntry& entry : memory.bucket.entries) {
        const int64_t begin = std::max(entry.begin, start), end = std::min(entry.end(), stop);
        if (begin >= end || Finite(buffer.Range(begin - start, {end - begin}))) continue;
        // Of the first of its modules that is here.
        const int module = *std::find_if(worker_.modules.begin(), worker_.modules.end(),
                                         [&](int number) { return memory.bucket.UsedBy(number); });
        Note({phase, phase == Found::kForward ? module : last_module_ - module, 0, 0}, kind + entry.parameter->name);
      }
    }
  }

  void Activations(const std::function<void()>& compute) {
    const auto observer = std::exchange(worker_.observer, [this](StepPart, const Action* action) {
      if (action != nullptr) micro_batch_ = action->micro_batch;
      layer_ = {};
    });
    worker_.inspector = [this](Pass pass, int module, const std::string& name, const Tensor& x) {
      if (layer_ != std::pair(pass, module)) place_ = 0;
      layer_ = {pass, module};
      ++place_;  // from 1: weights come before
      if (Finite(x)) return;
      const bool forward = pass == Pass::kForward;
      Note({forward ? Found::kForward : Found::kBackward, forward ? module : last_module_ - module, place_,
            micro_batch_},
           (forward ? "output of " : "gradient of the input of ") + name + ", micro-batch " +
               std::to_string(micro_batch_) + ",");
    };
    compute();
    worker_.inspector = nullptr;
    worker_.observer = observer;
  }

  // The earliest of all ranks.
  std::string First() {
    // "PHASE LAYER PLACE BATCH" in digits that sort as the numbers do, then the text.
    std::string line;
    if (first_) {
      for (const int number : first_->order) line += std::to_string(1'000'000'000 + number) + " ";
      line += first_->what + " on " + worker_.all->membership().NameOf(worker_.all->rank());
    }
    std::vector<std::string> lines = worker_.all->AllGatherStrings(line);
    std::erase(lines, "");
    if (lines.empty()) return "";
    constexpr size_t kOrder = 4 * 11;
    const auto order = [](const std::string& a, const std::string& b) {
      return a.compare(0, kOrder, b, 0, kOrder) < 0;
    };
    return std::min_element(lines.begin(), lines.end(), order)->substr(kOrder);
  }

 private:
  // A sum in double of finite float32 or bfloat16 elements is finite.
  bool Finite(const Tensor& x) { return x.elements() == 0 || std::isfinite(Sum(worker_.device, x)); }

  void Note(const std::array<int, 4>& order, const std::string& what) {
    if (!first_ || order < first_->order) first_ = Found{order, what};
  }

  Worker& worker_;
  const int last_module_;
  std::optional<Found> first_;
  int micro_batch_ = 0, place_ = 0;
  std::optional<std::pair<Pass, int>> layer_;  // that was inspected last
};

}  // namespace

std::string FindNonFinite(Worker& worker, const std::function<void()>& compute) {
  Search search(worker);
  ClearGradients(worker.store, worker.device);
  search.Parameters(&BucketMemory::weights, &BucketMemory::weight_shard, Found::kForward, "weight ");
  search.Activations(compute);
  search.Parameters(&BucketMemory::gradients, &BucketMemory::gradient_shard, Found::kWeightGradients, "gradient of ");
  ClearGradients(worker.store, worker.device);
  const std::string first = search.First();
  if (!first.empty()) return first;
  return "nowhere when the step was computed again, so that a machine's memory or arithmetic is to be suspected";
}

}  // namespace trefoil
