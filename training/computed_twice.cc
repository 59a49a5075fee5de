#include "training/computed_twice.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "training/checksum.h"
#include "training/optimizer/optimizer.h"

namespace trefoil {
namespace {

// Something that a step has made, with its place in the order of what follows from what: by phase, module, place within
// the module; then, for the same thing, by micro-batch.
struct Made {
  enum Phase { kForward, kLoss, kBackward, kOwnGradients, kSums, kAllSums };
  std::array<int, 4> order;
  std::string what;
  uint64_t checksum = 0;
};

class Witness {
 public:
  explicit Witness(Worker& worker)
      : worker_(worker), last_module_(static_cast<int>(ModulesOf(worker.config.model()).size()) - 1) {}

  std::vector<Tensor> Watch(const std::function<std::vector<Tensor>()>& compute) {
    const auto observer = worker_.observer;
    worker_.observer = [&](StepPart part, const Action* action) {
      if (action != nullptr) micro_batch_ = action->micro_batch;
      layer_ = {};
      if (observer) observer(part, action);
    };
    worker_.inspector = [this](Pass pass, int module, const std::string& name, const Tensor& x) {
      if (layer_ != std::pair(pass, module)) place_ = 0;
      layer_ = {pass, module};
      const bool forward = pass == Pass::kForward;
      Note(&made_, {forward ? Made::kForward : Made::kBackward, forward ? module : last_module_ - module, place_++,
                    micro_batch_},
           absl::StrCat(forward ? "output of " : "gradient of the input of ", name, ", micro-batch ", micro_batch_), x);
    };
    worker_.reducer.witness = [this](GradientReducer::SumOf sum, const Bucket& bucket, int64_t begin,
                                      const Tensor& gradients) {
      using SumOf = GradientReducer::SumOf;
      const auto phase = sum == SumOf::kReplicas ? Made::kSums : Made::kAllSums;
      Gradients(sum == SumOf::kRank ? Made::kOwnGradients : phase, bucket, begin, gradients);
    };
    std::vector<Tensor> losses = compute();
    worker_.reducer.witness = nullptr;
    worker_.inspector = nullptr;
    worker_.observer = observer;
    for (size_t i = 0; i < losses.size(); ++i) {
      if (!losses[i].defined()) continue;
      Note(&made_, {Made::kLoss, 0, 0, static_cast<int>(i)}, absl::StrCat("losses of micro-batch ", i), losses[i]);
    }
    return losses;
  }

  // What is there otherwise than in `other`, first.
  std::optional<Made> FirstDifference(const Witness& other) const {
    std::optional<Made> first;
    for (const auto list : {&Witness::made_, &Witness::reduced_}) {
      const std::vector<Made>&mine = this->*list, &others = other.*list;
      CHECK_EQ(mine.size(), others.size());
      for (size_t i = 0; i < mine.size(); ++i) {
        CHECK(mine[i].order == others[i].order) << mine[i].what;
        if (mine[i].checksum != others[i].checksum && (!first || mine[i].order < first->order)) first = mine[i];
      }
    }
    return first;
  }

 private:
  // Those in a buffer that starts at element `start` of its bucket. Called on the reducer's thread.
  void Gradients(Made::Phase phase, const Bucket& bucket, int64_t start, const Tensor& buffer) {
    const int64_t stop = start + buffer.elements();
    const int module = *std::find_if(worker_.modules.begin(), worker_.modules.end(),
                                     [&](int number) { return bucket.UsedBy(number); });
    int place = 0;
    for (const BucketEntry& entry : bucket.entries) {
      const int64_t begin = std::max(entry.begin, start), end = std::min(entry.end(), stop);
      if (begin >= end) continue;
      const char* kind = phase == Made::kOwnGradients ? "gradient of "
                         : phase == Made::kSums       ? "sum over data ranks of the gradient of "
                                                      : "sum of the gradient of ";
      Note(&reduced_, {phase, last_module_ - module, place++, static_cast<int>(reduced_.size())},
           kind + entry.parameter->name, buffer.Range(begin - start, {end - begin}));
    }
  }

  void Note(std::vector<Made>* list, const std::array<int, 4>& order, std::string what, const Tensor& x) {
    list->push_back({.order = order, .what = std::move(what), .checksum = Checksum(worker_.device, x)});
  }

  Worker& worker_;
  const int last_module_;
  std::vector<Made> made_;     // by the main thread
  std::vector<Made> reduced_;  // by the reducer's
  int micro_batch_ = 0, place_ = 0;
  std::optional<std::pair<Pass, int>> layer_;  // that was inspected last
};

// The earliest of all ranks, with those that have it.
std::string FirstOf(Worker& worker, const std::optional<Made>& mine) {
  double differs = mine ? 1 : 0;
  worker.all->AllReduceMax(std::span(&differs, 1));
  if (differs == 0) return "";
  // "PHASE MODULE PLACE BATCH" in digits that sort as the numbers do, then the text.
  std::string line;
  if (mine) {
    for (const int number : mine->order) absl::StrAppend(&line, 1'000'000'000 + number, " ");
    line += mine->what;
  }
  const std::vector<std::string> lines = worker.all->AllGatherStrings(line);
  constexpr size_t kOrder = 4 * 11;
  std::string first;
  std::vector<std::string> ranks;
  for (size_t rank = 0; rank < lines.size(); ++rank) {
    const std::string& of_rank = lines[rank];
    if (of_rank.empty()) continue;
    // Batches, and what is reduced how often, are each rank's own.
    constexpr size_t kPlace = 3 * 11;
    const int order = first.empty() ? -1 : of_rank.compare(0, kPlace, first, 0, kPlace);
    if (order > 0) continue;
    if (order < 0) ranks.clear();
    if (order < 0) first = of_rank;
    ranks.push_back(worker.all->membership().NameOf(static_cast<int>(rank)));
  }
  constexpr size_t kNamed = 8;
  const size_t others = ranks.size() - std::min(ranks.size(), kNamed);
  ranks.resize(ranks.size() - others);
  return absl::StrCat(first.substr(kOrder), " on ", absl::StrJoin(ranks, " and "),
                      others == 0 ? "" : absl::StrCat(" and ", others, " more"));
}

}  // namespace

ComputedTwice ComputeTwice(Worker& worker, const std::function<std::vector<Tensor>()>& compute) {
  Witness first(worker), second(worker);
  first.Watch(compute);
  ClearGradients(worker.store, worker.device);
  ComputedTwice twice;
  twice.losses = second.Watch(compute);
  twice.difference = FirstOf(worker, second.FirstDifference(first));
  return twice;
}

}  // namespace trefoil
