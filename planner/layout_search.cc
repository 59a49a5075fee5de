#include "planner/layout_search.h"

#include <algorithm>
#include <map>

#include "model/model_rules.h"
#include "parallel/axes.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

class Search {
 public:
  Search(const RunConfig& config, int ranks, Planner& planner, const SearchOptions& options)
      : config_(config), ranks_(ranks), planner_(planner), options_(options) {}

  SearchResult Run() {
    const std::vector<RunConfig> layouts = Layouts();
    for (const RunConfig& layout : layouts) {
      Try(layout);
      ++result_.tried;
      if (options_.progress) options_.progress(result_.tried, static_cast<int>(layouts.size()));
    }
    std::sort(estimates_.begin(), estimates_.end(),
              [](const Layout& a, const Layout& b) { return a.seconds < b.seconds; });
    Simulate();
    std::stable_sort(result_.too_large.begin(), result_.too_large.end(),
                     [](const Layout& a, const Layout& b) { return a.reserved < b.reserved; });
    return std::move(result_);
  }

 private:
  using Mesh = std::vector<int>;  // sizes of the axes

  bool Pinned(const char* field) const { return options_.pinned.contains(field); }
  static Mesh MeshOf(const RunConfig& config) {
    Mesh mesh;
    for (const AxisEntry& axis : Axes()) mesh.push_back((config.parallel().*axis.size)());
    return mesh;
  }

  // What most choices fail by, before the rules are asked, which take the time to say why.
  bool MayBe(const AxisEntry& axis, int size) const {
    if (Pinned(axis.name)) return size == (config_.parallel().*axis.size)();
    for (const DividedSize& divided : DividedSizes(config_.model())) {
      if (divided.axis == axis.axis && divided.size % size != 0) return false;
    }
    if (axis.splits == AxisSplits::kMatrices) return size <= planner_.cluster().devices_per_node();
    return axis.splits != AxisSplits::kSamples || config_.training().global_batch() % size == 0;
  }

  // Legal layouts, with the choices that cost no time as they save most memory.
  std::vector<RunConfig> Layouts() const {
    std::vector<RunConfig> layouts;
    ForEachMesh(
        ranks_, config_.parallel(),
        [&](const ParallelConfig& mesh) {
          const int share = config_.training().global_batch() / mesh.data();
          for (const int64_t samples : Divisors(std::min(share, kMostSamples))) {
            if (Pinned("micro_batch") && samples != config_.training().micro_batch()) continue;
            for (const int64_t chunks : chunks_) {
              Add(mesh, static_cast<int>(samples), static_cast<int>(chunks), &layouts);
            }
          }
        },
        [this](const AxisEntry& axis, int size) { return MayBe(axis, size); });
    return layouts;
  }

  void Add(const ParallelConfig& mesh, int samples, int chunks, std::vector<RunConfig>* layouts) const {
    const int pipeline = mesh.pipeline(), tensor = mesh.tensor(), data = mesh.data();
    if (BlocksOf(config_.model()) % (pipeline * chunks) != 0 && !Pinned("pipeline")) return;
    if (chunks > kMostChunks || (Pinned("chunks") && chunks != config_.parallel().chunks())) return;
    const auto kind = chunks > 1 ? ParallelConfig::INTERLEAVED : ParallelConfig::ONE_F_ONE_B;
    const ScheduleEntry& schedule = EntryOf(Pinned("schedule") ? config_.parallel().schedule() : kind);
    if (chunks < schedule.least_chunks || chunks > schedule.most_chunks || pipeline < schedule.least_stages) return;
    if (schedule.whole_rounds && config_.training().global_batch() / data / samples % pipeline != 0) return;
    RunConfig config = config_;
    ParallelConfig& parallel = *config.mutable_parallel();
    parallel = mesh;
    parallel.set_chunks(chunks);
    config.mutable_training()->set_micro_batch(samples);
    parallel.set_schedule(schedule.schedule);
    if (!Pinned("replicas")) parallel.set_replicas(1);
    if (!Pinned("sequence_parallel")) {
      parallel.set_sequence_parallel(tensor > 1 && samples * config.model().sequence_length() % tensor == 0 &&
                                     samples * config.model().decoder_length() % tensor == 0);
    }
    if (!Pinned("zero")) parallel.set_zero(ParallelConfig::OPTIMIZER);
    if (Violations(config, ranks_).empty()) layouts->push_back(std::move(config));
  }

  // With as little of ZeRO and of recomputation as fits: the one saves memory for messages, the other for FLOPs, so
  // that each stage of ZeRO is tried until one fits without recomputation.
  void Try(RunConfig config) {
    Layout least;
    const bool fits = WithLeastRecomputation(config, &least);
    if (fits) AddEstimates(least);
    // Groups of a rank's micro-batches are not added up beyond it.
    const bool grouped = config.training().gradient_groups() > config.parallel().data();
    const bool splits_more = !Pinned("zero") && config.parallel().data() > 1 && !grouped;
    if (splits_more && !(fits && least.config.parallel().recompute() == ParallelConfig::NOTHING)) {
      // Whether all that saves memory is enough.
      ParallelConfig& parallel = *config.mutable_parallel();
      parallel.set_zero(ParallelConfig::WEIGHTS);
      if (!Pinned("recompute")) parallel.set_recompute(ParallelConfig::FULL);
      Layout smallest;
      if (Fits(config, &smallest)) return TryToSplitMore(config);
      if (smallest.reserved < least.reserved) least = smallest;
    }
    if (!fits) result_.too_large.push_back(least);
  }

  void TryToSplitMore(RunConfig config) {
    for (const auto zero : {ParallelConfig::GRADIENTS, ParallelConfig::WEIGHTS}) {
      config.mutable_parallel()->set_zero(zero);
      Layout layout;
      if (!WithLeastRecomputation(config, &layout)) continue;
      AddEstimates(layout);
      if (layout.config.parallel().recompute() == ParallelConfig::NOTHING) return;
    }
  }

  // It, and the same in copies that each lie on a node.
  void AddEstimates(const Layout& layout) {
    estimates_.push_back(layout);
    const ParallelConfig& parallel = layout.config.parallel();
    const int of_node = planner_.cluster().devices_per_node() / parallel.tensor();
    const bool splits_more = parallel.zero() == ParallelConfig::GRADIENTS || parallel.zero() == ParallelConfig::WEIGHTS;
    if (!splits_more || Pinned("replicas") || of_node < 2 || parallel.data() <= of_node) return;
    if (parallel.data() % of_node != 0) return;
    RunConfig config = layout.config;
    config.mutable_parallel()->set_replicas(parallel.data() / of_node);
    Layout in_copies;
    if (Fits(config, &in_copies)) estimates_.push_back(in_copies);
  }

  bool Fits(const RunConfig& config, Layout* layout) {
    const Estimate estimate = planner_.EstimateStep(config, ranks_);
    *layout = {.config = config,
               .seconds = estimate.seconds,
               .utilisation = 0,
               .bubble = 0,
               .reserved = estimate.memory.reserved,
               .memory = estimate.memory};
    return estimate.fits;
  }

  // False if none fits: `layout` is then the last.
  bool WithLeastRecomputation(RunConfig config, Layout* layout) {
    for (const auto recompute : {ParallelConfig::NOTHING, ParallelConfig::SELECTIVE, ParallelConfig::FULL}) {
      if (!Pinned("recompute")) config.mutable_parallel()->set_recompute(recompute);
      if (Fits(config, layout)) return true;
      // What activations do not change.
      int64_t fixed = 0;
      for (const Purpose purpose : {Purpose::kWeights, Purpose::kGradients, Purpose::kOptimizer}) {
        fixed += layout->memory.peak[static_cast<size_t>(purpose)];
      }
      const bool hopeless = static_cast<double>(fixed) > planner_.MemoryLimit(config, ranks_);
      if (Pinned("recompute") || hopeless) break;
    }
    return false;
  }

  // The estimates' best, but for a mesh's third and later ones: the list is of different meshes.
  void Simulate() {
    std::map<Mesh, int> of_mesh;
    std::map<Mesh, Layout> best;
    int simulated = 0;
    for (Layout& layout : estimates_) {
      if (simulated == options_.simulated) break;
      const Mesh mesh = MeshOf(layout.config);
      if (++of_mesh[mesh] > 2) continue;
      ++simulated;
      const Plan plan = planner_.Make(layout.config, ranks_);
      layout.seconds = plan.step_seconds;
      layout.utilisation = plan.utilisation();
      layout.bubble = plan.bubble;
      layout.reserved = plan.reserved();
      layout.memory = plan.stages[static_cast<size_t>(plan.fullest)].memory;
      const auto [found, is_new] = best.try_emplace(mesh, layout);
      if (!is_new && layout.seconds < found->second.seconds) found->second = layout;
    }
    for (auto& [mesh, layout] : best) result_.fits.push_back(std::move(layout));
    std::stable_sort(result_.fits.begin(), result_.fits.end(),
                     [](const Layout& a, const Layout& b) { return a.seconds < b.seconds; });
  }

  static constexpr int kMostChunks = 8, kMostSamples = 16;

  const RunConfig& config_;
  const int ranks_;
  Planner& planner_;
  const SearchOptions& options_;
  const std::vector<int64_t> chunks_ = Divisors(config_.model().layers());
  std::vector<Layout> estimates_;
  SearchResult result_;
};

}  // namespace

SearchResult SearchLayouts(const RunConfig& config, int ranks, Planner& planner, const SearchOptions& options) {
  return Search(config, ranks, planner, options).Run();
}

}  // namespace trefoil
