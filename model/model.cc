#include "model/model.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>

namespace trefoil {
namespace {

// What virtual stages share out: the modules of `begin` to the next unit's, of which the last is a block.
struct Unit {
  int begin = 0;
  double flops = 0;
};

// A model's modules: those before the units, the units, and those from number `end` on.
struct Chain {
  double before = 0, behind = 0;
  std::vector<Unit> units;
  int end = 0;
  bool alike = true;  // each unit is a block, all of one kind

  int begin_of(size_t unit) const { return unit < units.size() ? units[unit].begin : end; }
};

Chain ChainOf(const std::vector<ModuleSpec>& modules) {
  const auto is_block = [](const ModuleSpec& module) { return module.block; };
  const auto first = std::find_if(modules.begin(), modules.end(), is_block);
  std::map<std::string, double> flops;  // of a kind
  Chain chain;
  chain.end = static_cast<int>(first - modules.begin());
  double waiting = 0;  // of modules that stay with the block behind them
  int begin = chain.end;
  for (size_t i = 0; i < modules.size(); ++i) {
    const ModuleSpec& module = modules[i];
    const auto [known, is_new] = flops.try_emplace(module.kind);
    if (is_new) known->second = module.flops();
    if (static_cast<int>(i) < begin && chain.units.empty()) {
      chain.before += known->second;
      continue;
    }
    waiting += known->second;
    if (!module.block) continue;
    chain.alike &= module.kind == first->kind && begin == static_cast<int>(i);
    chain.units.push_back({.begin = begin, .flops = waiting});
    waiting = 0;
    chain.end = begin = static_cast<int>(i) + 1;
  }
  chain.behind = waiting;
  return chain;
}

// How many of `blocks` each of several parts takes so that the most loaded has the least: at_least each, then one at a
// time to the least loaded. Of equals the last: the first stages of a pipeline hold more activations. `other`: what
// each part has to do besides.
std::vector<int> Spread(int blocks, int at_least, double block, const std::vector<double>& other) {
  std::vector<int> taken(other.size(), at_least);
  std::vector<double> load = other;
  for (double& part : load) part += at_least * block;
  for (int left = blocks - static_cast<int>(other.size()) * at_least; left > 0; --left) {
    const auto least = std::min_element(load.rbegin(), load.rend());
    *least += block;
    ++taken[static_cast<size_t>(load.rend() - least) - 1];
  }
  return taken;
}

// The units of each virtual stage where all are alike: the stages share them out, and each stage its own among its chunks.
std::vector<int> SpreadAlike(const Chain& chain, const VirtualStages& virtual_stages, const std::vector<double>& other) {
  const int stages = virtual_stages.stages(), chunks = virtual_stages.chunks();
  const double block = chain.units.front().flops;
  std::vector<double> other_of_stage(static_cast<size_t>(stages));
  for (int v = 0; v <= virtual_stages.last(); ++v) {
    other_of_stage[static_cast<size_t>(virtual_stages.StageOf(v))] += other[static_cast<size_t>(v)];
  }
  const std::vector<int> of_stages = Spread(static_cast<int>(chain.units.size()), chunks, block, other_of_stage);
  std::vector<int> taken(other.size());
  for (int stage = 0; stage < stages; ++stage) {
    std::vector<double> other_of_chunk;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      other_of_chunk.push_back(other[static_cast<size_t>(virtual_stages.Of(stage, chunk))]);
    }
    const std::vector<int> of_chunks = Spread(of_stages[static_cast<size_t>(stage)], 1, block, other_of_chunk);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      taken[static_cast<size_t>(virtual_stages.Of(stage, chunk))] = of_chunks[static_cast<size_t>(chunk)];
    }
  }
  return taken;
}

// The same where they differ: each virtual stage takes some in a row, so that the most loaded has the least.
std::vector<int> SpreadInOrder(const Chain& chain, const std::vector<double>& other) {
  const size_t n = chain.units.size(), parts = other.size();
  std::vector<double> sums = {0};
  for (const Unit& unit : chain.units) sums.push_back(sums.back() + unit.flops);
  constexpr double kNever = std::numeric_limits<double>::infinity();
  // By part and units taken by the parts up to it: the load of the most loaded, and how many those before it take. Of
  // equals the fewest: the first stages of a pipeline hold more activations.
  std::vector<std::vector<double>> most(parts, std::vector<double>(n + 1, kNever));
  std::vector<std::vector<size_t>> before(parts, std::vector<size_t>(n + 1));
  for (size_t part = 0; part < parts; ++part) {
    for (size_t end = part + 1; end <= n; ++end) {
      for (size_t begin = part; begin < end; ++begin) {
        if (part == 0 && begin > 0) break;
        const double load = std::max(part == 0 ? 0 : most[part - 1][begin], sums[end] - sums[begin] + other[part]);
        if (load >= most[part][end]) continue;
        most[part][end] = load;
        before[part][end] = begin;
      }
    }
  }
  std::vector<int> taken(parts);
  size_t end = n;
  for (size_t part = parts; part-- > 0;) {
    taken[part] = static_cast<int>(end - before[part][end]);
    end = before[part][end];
  }
  return taken;
}

}  // namespace

ParameterTable DeclareModel(const ModelConfig& config) {
  ParameterTable table;
  for (const ModuleSpec& module : ModulesOf(config)) module.declare(&table);
  return table;
}

std::vector<std::vector<int>> ModulesOfVirtualStages(const ModelConfig& config, const VirtualStages& virtual_stages) {
  return ModulesOfVirtualStages(ModulesOf(config), virtual_stages);
}

std::vector<std::vector<int>> ModulesOfVirtualStages(const std::vector<ModuleSpec>& modules,
                                                     const VirtualStages& virtual_stages) {
  const Chain chain = ChainOf(modules);
  CHECK_GE(static_cast<int>(chain.units.size()), virtual_stages.size());
  std::vector<double> other(static_cast<size_t>(virtual_stages.size()));  // by virtual stage
  other.front() += chain.before;
  other.back() += chain.behind;
  const std::vector<int> taken =
      chain.alike ? SpreadAlike(chain, virtual_stages, other) : SpreadInOrder(chain, other);
  std::vector<std::vector<int>> numbers(other.size());
  int number = 0;
  size_t unit = 0;
  for (size_t v = 0; v < numbers.size(); ++v) {
    unit += static_cast<size_t>(taken[v]);
    const bool last = v + 1 == numbers.size();
    const int end = last ? static_cast<int>(modules.size()) : chain.begin_of(unit);
    while (number < end) numbers[v].push_back(number++);
  }
  return numbers;
}

Role RoleOf(const ModelConfig& config, const std::vector<int>& numbers) {
  const std::vector<ModuleSpec> modules = ModulesOf(config);
  Role role;
  for (const int number : numbers) role = role | modules[static_cast<size_t>(number)].role;
  return role;
}

int64_t TokensOfSample(const ModelConfig& config) {
  return int64_t{config.sequence_length()} + config.decoder_length();
}

double ModelFlops(const ModelConfig& config) {
  const Chain chain = ChainOf(ModulesOf(config));
  double flops = chain.before + chain.behind;
  for (const Unit& unit : chain.units) flops += unit.flops;
  return flops;
}

}  // namespace trefoil
