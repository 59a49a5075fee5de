#include "planner/layout_search.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

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
    for (Trial& trial : TryAll(Layouts())) {
      std::move(trial.fits.begin(), trial.fits.end(), std::back_inserter(estimates_));
      if (trial.too_large) result_.too_large.push_back(*std::move(trial.too_large));
    }
    std::stable_sort(estimates_.begin(), estimates_.end(),
                     [](const Layout& a, const Layout& b) { return a.seconds < b.seconds; });
    Simulate();
    std::stable_sort(result_.too_large.begin(), result_.too_large.end(),
                     [](const Layout& a, const Layout& b) { return a.reserved < b.reserved; });
    return std::move(result_);
  }

 private:
  using Mesh = std::vector<int>;  // sizes of the axes

  // What came of one of the layouts.
  struct Trial {
    std::vector<Layout> fits;
    std::optional<Layout> too_large;
  };

  // On all of the host's cores, a planner for each; those of a mesh one after the other, with smaller micro-batches first.
  std::vector<Trial> TryAll(const std::vector<RunConfig>& layouts) {
    std::vector<size_t> meshes;  // the first of each
    for (size_t i = 0; i < layouts.size(); ++i) {
      if (i == 0 || MeshOf(layouts[i]) != MeshOf(layouts[i - 1])) meshes.push_back(i);
    }
    std::vector<Trial> trials(layouts.size());
    std::atomic<size_t> next = 0;
    std::mutex mutex;
    const auto work = [&](Planner& planner) {
      for (size_t mesh = next++; mesh < meshes.size(); mesh = next++) {
        const size_t end = mesh + 1 < meshes.size() ? meshes[mesh + 1] : layouts.size();
        std::vector<const ParallelConfig*> too_large;
        for (size_t i = meshes[mesh]; i < end; ++i) {
          const bool hopeless = std::any_of(too_large.begin(), too_large.end(), [&](const ParallelConfig* smaller) {
            return HoldsAsMuch(layouts[i].parallel(), *smaller);
          });
          if (!hopeless) Try(layouts[i], planner, &trials[i]);
          if (trials[i].too_large) too_large.push_back(&layouts[i].parallel());
          std::lock_guard lock(mutex);
          ++result_.tried;
          if (options_.progress) options_.progress(result_.tried, static_cast<int>(layouts.size()));
        }
      }
    };
    std::vector<std::thread> threads;
    const size_t most = std::min<size_t>(std::thread::hardware_concurrency(), 16);
    for (size_t i = 1; i < std::min(most, meshes.size()); ++i) {
      threads.emplace_back([&] {
        Planner planner(planner_.cluster());
        work(planner);
      });
    }
    work(planner_);
    for (std::thread& thread : threads) thread.join();
    return trials;
  }

  // Whether a stage holds at least as much, of micro-batches that are no smaller: with schedules of the same virtual
  // stages, of which the table has those that hold more behind.
  static bool HoldsAsMuch(const ParallelConfig& parallel, const ParallelConfig& smaller) {
    const ScheduleEntry &more = EntryOf(parallel.schedule()), &less = EntryOf(smaller.schedule());
    return parallel.chunks() == smaller.chunks() && parallel.context_method() == smaller.context_method() &&
           more.order == less.order && &more >= &less;
  }

  bool Pinned(const char* field) const { return options_.pinned.contains(field); }
  static double Bytes(const Layout& layout, Purpose purpose) {
    return static_cast<double>(layout.memory.peak[static_cast<size_t>(purpose)]);
  }
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
    if (axis.splits == AxisSplits::kTokens) {
      return size == 1 || config_.model().sequence_length() / size >= kLeastTokens;
    }
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
              for (const ParallelConfig::ContextMethod method : Methods(mesh)) {
                Add(mesh, method, static_cast<int>(samples), static_cast<int>(chunks), &layouts);
              }
            }
          }
        },
        [this](const AxisEntry& axis, int size) { return MayBe(axis, size); });
    return layouts;
  }

  std::vector<ParallelConfig::ContextMethod> Methods(const ParallelConfig& mesh) const {
    if (Pinned("context_method")) return {config_.parallel().context_method()};
    if (mesh.context() == 1) return {ParallelConfig::RING};
    return {ParallelConfig::RING, ParallelConfig::ALL_TO_ALL};
  }

  void Add(const ParallelConfig& mesh, ParallelConfig::ContextMethod method, int samples, int chunks,
           std::vector<RunConfig>* layouts) const {
    const int pipeline = mesh.pipeline(), data = mesh.data();
    if (BlocksOf(config_.model()) % (pipeline * chunks) != 0 && !Pinned("pipeline")) return;
    if (chunks > kMostChunks || (Pinned("chunks") && chunks != config_.parallel().chunks())) return;
    const int micro_batches = config_.training().global_batch() / data / samples;
    for (const ScheduleEntry& schedule : Schedules()) {
      const bool tried = Pinned("schedule") ? schedule.schedule == config_.parallel().schedule()
                                            : schedule.schedule != ParallelConfig::GPIPE && !schedule.searched();
      if (!tried || chunks < schedule.least_chunks || chunks > schedule.most_chunks || pipeline < schedule.least_stages ||
          (schedule.whole_rounds && micro_batches % pipeline != 0) ||
          micro_batches < schedule.least_micro_batches(pipeline)) {
        continue;
      }
      Add(mesh, method, samples, chunks, schedule, layouts);
    }
  }

  void Add(const ParallelConfig& mesh, ParallelConfig::ContextMethod method, int samples, int chunks,
           const ScheduleEntry& schedule, std::vector<RunConfig>* layouts) const {
    const int tensor = mesh.tensor();
    RunConfig config = config_;
    ParallelConfig& parallel = *config.mutable_parallel();
    parallel = mesh;
    *parallel.mutable_schedule_search() = config_.parallel().schedule_search();
    parallel.set_chunks(chunks);
    parallel.set_context_method(method);
    config.mutable_training()->set_micro_batch(samples);
    parallel.set_schedule(schedule.schedule);
    if (!Pinned("replicas")) parallel.set_replicas(1);
    if (!Pinned("sequence_parallel")) {
      const int64_t tokens = int64_t{samples} * config.model().sequence_length() / mesh.context();
      parallel.set_sequence_parallel(tensor > 1 && tokens % tensor == 0 &&
                                     samples * config.model().decoder_length() % tensor == 0);
    }
    if (!Pinned("zero")) parallel.set_zero(ParallelConfig::OPTIMIZER);
    if (Violations(config, ranks_).empty()) layouts->push_back(std::move(config));
  }

  // With as little of ZeRO and of recomputation as fits: the one saves memory for messages, the other for FLOPs, so
  // that each stage of ZeRO is tried until one fits without recomputation.
  void Try(RunConfig config, Planner& planner, Trial* trial) const {
    Layout least;
    const bool fits = WithLeastRecomputation(config, planner, &least);
    if (fits) AddEstimates(least, planner, trial);
    // Groups of a rank's micro-batches are not added up beyond it.
    const bool grouped = config.training().gradient_groups() > config.parallel().data();
    const bool replicated = config.parallel().data() * config.parallel().context() > 1;
    const bool splits_more = !Pinned("zero") && replicated && !grouped;
    if (splits_more && !(fits && least.config.parallel().recompute() == ParallelConfig::NOTHING)) {
      // Whether all that saves memory is enough.
      ParallelConfig& parallel = *config.mutable_parallel();
      parallel.set_zero(ParallelConfig::WEIGHTS);
      if (!Pinned("recompute")) parallel.set_recompute(ParallelConfig::FULL);
      Layout smallest;
      if (Fits(config, planner, &smallest)) return TryToSplitMore(config, least, smallest, planner, trial);
      if (smallest.reserved < least.reserved) least = smallest;
    }
    if (!fits) trial->too_large = least;
  }

  // `whole`: with ZeRO OPTIMIZER and some recomputation, `smallest`: with all that saves memory. What they take says of
  // some others that they are far too large: activations do not depend on ZeRO, nor what it splits on recomputation.
  void TryToSplitMore(RunConfig config, const Layout& whole, const Layout& smallest, Planner& planner,
                      Trial* trial) const {
    const double limit = planner.MemoryLimit(config, ranks_);
    const double unsaved = static_cast<double>(smallest.reserved) - Bytes(smallest, Purpose::kActivations) +
                           Bytes(whole, Purpose::kActivations);
    const bool some = whole.config.parallel().recompute() == ParallelConfig::NOTHING && unsaved > 1.05 * limit;
    for (const auto zero : {ParallelConfig::GRADIENTS, ParallelConfig::WEIGHTS}) {
      const double kept = Bytes(whole, Purpose::kWeights) + Bytes(whole, Purpose::kOptimizer);
      if (zero == ParallelConfig::GRADIENTS && kept > limit) continue;
      config.mutable_parallel()->set_zero(zero);
      Layout layout;
      const auto first = some && zero == ParallelConfig::WEIGHTS ? ParallelConfig::SELECTIVE : ParallelConfig::NOTHING;
      if (!WithLeastRecomputation(config, planner, &layout, first)) continue;
      AddEstimates(layout, planner, trial);
      if (layout.config.parallel().recompute() == ParallelConfig::NOTHING) return;
    }
  }

  // It, and the same in copies that each lie on a node.
  void AddEstimates(const Layout& layout, Planner& planner, Trial* trial) const {
    trial->fits.push_back(layout);
    const ParallelConfig& parallel = layout.config.parallel();
    const int of_node = planner.cluster().devices_per_node() / (parallel.tensor() * parallel.context());
    const bool splits_more = parallel.zero() == ParallelConfig::GRADIENTS || parallel.zero() == ParallelConfig::WEIGHTS;
    if (!splits_more || Pinned("replicas") || of_node < 2 || parallel.data() <= of_node) return;
    const int copies = parallel.data() / of_node;
    const double limit = planner.MemoryLimit(layout.config, ranks_);
    if (parallel.data() % of_node != 0 || (limit > 0 && Bytes(layout, Purpose::kOptimizer) * copies > limit)) return;
    RunConfig config = layout.config;
    config.mutable_parallel()->set_replicas(copies);
    Layout in_copies;
    if (Fits(config, planner, &in_copies)) trial->fits.push_back(in_copies);
  }

  bool Fits(const RunConfig& config, Planner& planner, Layout* layout) const {
    const Estimate estimate = planner.EstimateStep(config, ranks_);
    *layout = {.config = config,
               .seconds = estimate.seconds,
               .utilisation = 0,
               .bubble = 0,
               .reserved = estimate.memory.reserved,
               .memory = estimate.memory};
    return estimate.fits;
  }

  // From `first` on. False if none fits: `layout` is then the last.
  bool WithLeastRecomputation(RunConfig config, Planner& planner, Layout* layout,
                              ParallelConfig::Recompute first = ParallelConfig::NOTHING) const {
    for (const auto recompute : {ParallelConfig::NOTHING, ParallelConfig::SELECTIVE, ParallelConfig::FULL}) {
      if (recompute < first && !Pinned("recompute")) continue;
      if (!Pinned("recompute")) config.mutable_parallel()->set_recompute(recompute);
      if (Fits(config, planner, layout)) return true;
      // What activations do not change.
      int64_t fixed = 0;
      for (const Purpose purpose : {Purpose::kWeights, Purpose::kGradients, Purpose::kOptimizer}) {
        fixed += layout->memory.peak[static_cast<size_t>(purpose)];
      }
      const bool hopeless = static_cast<double>(fixed) > planner.MemoryLimit(config, ranks_);
      if (Pinned("recompute") || hopeless) break;
    }
    return false;
  }

  // The estimates' best, but for a mesh's fourth and later ones: the list is of different meshes.
  void Simulate() {
    std::map<Mesh, int> of_mesh;
    std::map<Mesh, Layout> best;
    int simulated = 0;
    for (Layout& layout : estimates_) {
      if (simulated == options_.simulated) break;
      const Mesh mesh = MeshOf(layout.config);
      if (++of_mesh[mesh] > 3) continue;
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
  // Of a sample on each context rank: with fewer, messages take longer than what they are for.
  static constexpr int kLeastTokens = 4096;

  const RunConfig& config_;
  const int ranks_;
  Planner& planner_;
  const SearchOptions& options_;
  const std::vector<int64_t> chunks_ = Divisors(config_.model().layers());
  std::vector<Layout> estimates_;
  SearchResult result_;
};

}  // namespace

SearchResult SearchLayouts(const RunConfig& run, int ranks, Planner& planner, const SearchOptions& options) {
  RunConfig config = run;
  config.mutable_training()->mutable_checkpoint()->set_writing(CheckpointConfig::FOREGROUND);
  return Search(config, ranks, planner, options).Run();
}

}  // namespace trefoil
