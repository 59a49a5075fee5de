#include "training/inference/beam_search.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace trefoil {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// An open hypothesis and a token behind it.
struct Candidate {
  double log_probability;
  size_t open;
  int32_t token;
};

bool Likelier(const Candidate& a, const Candidate& b) {
  if (a.log_probability != b.log_probability) return a.log_probability > b.log_probability;
  return a.open != b.open ? a.open < b.open : a.token < b.token;
}

bool Better(const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; }

// One text's search.
class Search {
 public:
  Search(int64_t limit, const BeamOptions& options) : limit_(limit), options_(options), open_(1) { CHECK_GE(limit, 1); }

  const std::vector<Hypothesis>& open() const { return open_; }

  // The log-probabilities of what is behind each open one are from row `first` on.
  void Step(const Rows& next, int64_t first) {
    std::vector<Hypothesis> before = std::exchange(open_, {});
    const std::vector<Candidate> candidates = Choose(before, next, first);
    for (size_t rank = 0; rank < candidates.size(); ++rank) {
      const Candidate& candidate = candidates[rank];
      const bool ends = candidate.token == options_.end;
      if (ends && rank >= beam()) continue;
      if (!ends && open_.size() == beam()) continue;
      Hypothesis hypothesis = {.ids = before[candidate.open].ids, .log_probability = candidate.log_probability};
      if (!ends) hypothesis.ids.push_back(candidate.token);
      hypothesis.ended = ends;
      Add(std::move(hypothesis));
    }
    if (kept_.size() >= beam() || !MayBeat()) open_.clear();
  }

  std::vector<Hypothesis> Best() && {
    kept_.resize(std::min(kept_.size(), static_cast<size_t>(options_.top)));
    return std::move(kept_);
  }

 private:
  size_t beam() const { return static_cast<size_t>(options_.beam); }
  double Score(double log_probability, int64_t tokens) const {
    return log_probability / std::pow((5.0 + static_cast<double>(tokens)) / 6.0, options_.length_penalty);
  }

  // The 2 * beam likeliest: even if the beam's worth of them end, so many go on.
  std::vector<Candidate> Choose(const std::vector<Hypothesis>& before, const Rows& next, int64_t first) const {
    const size_t most = 2 * beam();
    std::vector<Candidate> best;  // a heap, the least likely in front
    for (size_t i = 0; i < before.size(); ++i) {
      const std::span<const float> row = next[first + static_cast<int64_t>(i)];
      const size_t tokens = options_.vocabulary > 0 ? static_cast<size_t>(options_.vocabulary) : row.size();
      const bool full = static_cast<int64_t>(before[i].ids.size()) == limit_;  // only the end may follow
      for (size_t token = full ? static_cast<size_t>(options_.end) : 0; token < tokens; ++token) {
        const Candidate candidate = {before[i].log_probability + row[token], i, static_cast<int32_t>(token)};
        if (candidate.log_probability > kNever && (best.size() < most || Likelier(candidate, best.front()))) {
          if (best.size() == most) {
            std::pop_heap(best.begin(), best.end(), Likelier);
            best.pop_back();
          }
          best.push_back(candidate);
          std::push_heap(best.begin(), best.end(), Likelier);
        }
        if (full) break;
      }
    }
    std::sort_heap(best.begin(), best.end(), Likelier);
    return best;
  }

  void Add(Hypothesis hypothesis) {
    const auto tokens = static_cast<int64_t>(hypothesis.ids.size());
    hypothesis.score = Score(hypothesis.log_probability, tokens + (hypothesis.ended ? 1 : 0));
    const bool is_cut = tokens == limit_ && options_.at_limit == BeamOptions::AtLimit::kIsCut;
    if (!hypothesis.ended && !is_cut) {
      open_.push_back(std::move(hypothesis));
    } else {
      kept_.insert(std::upper_bound(kept_.begin(), kept_.end(), hypothesis, Better), std::move(hypothesis));
    }
  }

  // Whether what may become of the likeliest open one is better than the last of the top. More tokens can only make a
  // text less likely, and the penalty is the least at the limit.
  bool MayBeat() const {
    if (kept_.size() < static_cast<size_t>(options_.top)) return true;
    const double score = kept_[static_cast<size_t>(options_.top) - 1].score;
    return !open_.empty() && Score(open_.front().log_probability, limit_ + 1) > score;
  }

  const int64_t limit_;
  const BeamOptions& options_;
  std::vector<Hypothesis> open_, kept_;  // the likeliest first; the best first
};

}  // namespace

std::vector<std::vector<Hypothesis>> BeamSearch(std::span<const int64_t> limits, const NextToken& next,
                                                const BeamOptions& options) {
  CHECK(options.beam >= 1 && options.top >= 1 && options.top <= options.beam);
  CHECK_GE(options.length_penalty, 0);
  std::vector<Search> searches;
  for (const int64_t limit : limits) searches.emplace_back(limit, options);
  while (true) {
    std::vector<Prefix> prefixes;
    for (size_t i = 0; i < searches.size(); ++i) {
      for (const Hypothesis& open : searches[i].open()) prefixes.push_back({static_cast<int64_t>(i), open.ids});
    }
    if (prefixes.empty()) break;
    const Rows rows = next(prefixes);
    CHECK_EQ(rows.count(), static_cast<int64_t>(prefixes.size()));
    CHECK(options.end < rows.columns && options.vocabulary <= rows.columns);
    int64_t first = 0;
    for (Search& search : searches) {
      const auto open = static_cast<int64_t>(search.open().size());
      if (open > 0) search.Step(rows, first);
      first += open;
    }
  }
  std::vector<std::vector<Hypothesis>> best;
  for (Search& search : searches) best.push_back(std::move(search).Best());
  return best;
}

}  // namespace trefoil
