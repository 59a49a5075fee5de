#include "model/model.h"

#include <glog/logging.h>

#include <algorithm>

namespace trefoil {
namespace {

// Modules [begin, end) are the blocks.
struct Blocks {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
};

Blocks BlocksOf(const std::vector<ModuleSpec>& modules) {
  const auto is_block = [](const ModuleSpec& module) { return module.block; };
  const auto begin = std::find_if(modules.begin(), modules.end(), is_block);
  const auto end = std::find_if_not(begin, modules.end(), is_block);
  CHECK(std::none_of(end, modules.end(), is_block)) << "blocks follow each other";
  CHECK(std::all_of(begin, end, [&](const ModuleSpec& module) { return module.kind == begin->kind; }));
  return {static_cast<int>(begin - modules.begin()), static_cast<int>(end - modules.begin())};
}

// FLOPs of training on one token: in each block, in all that comes before the blocks, and behind.
struct Flops {
  double before = 0, block = 0, behind = 0;
};

Flops FlopsOf(const std::vector<ModuleSpec>& modules, const Blocks& blocks, int64_t sequence_length) {
  const auto of = [&](int number) { return modules[static_cast<size_t>(number)].flops_per_token(sequence_length); };
  Flops flops;
  for (int number = 0; number < blocks.begin; ++number) flops.before += of(number);
  if (blocks.size() > 0) flops.block = of(blocks.begin);
  for (int number = blocks.end; number < static_cast<int>(modules.size()); ++number) flops.behind += of(number);
  return flops;
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

}  // namespace

ParameterTable DeclareModel(const ModelConfig& config) {
  ParameterTable table;
  for (const ModuleSpec& module : ModulesOf(config)) module.declare(&table);
  return table;
}

std::vector<std::vector<int>> ModulesOfVirtualStages(const ModelConfig& config, const VirtualStages& virtual_stages) {
  return ModulesOfVirtualStages(ModulesOf(config), config.sequence_length(), virtual_stages);
}

std::vector<std::vector<int>> ModulesOfVirtualStages(const std::vector<ModuleSpec>& modules, int64_t sequence_length,
                                                     const VirtualStages& virtual_stages) {
  const Blocks blocks = BlocksOf(modules);
  CHECK_GE(blocks.size(), virtual_stages.size());
  const Flops flops = FlopsOf(modules, blocks, sequence_length);
  const int stages = virtual_stages.stages(), chunks = virtual_stages.chunks(), last = virtual_stages.last();
  std::vector<double> other(static_cast<size_t>(virtual_stages.size()));  // by virtual stage
  other.front() += flops.before;
  other.back() += flops.behind;

  std::vector<double> other_of_stage(static_cast<size_t>(stages));
  for (int v = 0; v <= last; ++v) {
    other_of_stage[static_cast<size_t>(virtual_stages.StageOf(v))] += other[static_cast<size_t>(v)];
  }
  const std::vector<int> blocks_of_stage = Spread(blocks.size(), chunks, flops.block, other_of_stage);
  std::vector<int> blocks_of(other.size());  // by virtual stage
  for (int stage = 0; stage < stages; ++stage) {
    std::vector<double> other_of_chunk;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      other_of_chunk.push_back(other[static_cast<size_t>(virtual_stages.Of(stage, chunk))]);
    }
    const std::vector<int> of_chunk =
        Spread(blocks_of_stage[static_cast<size_t>(stage)], 1, flops.block, other_of_chunk);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      blocks_of[static_cast<size_t>(virtual_stages.Of(stage, chunk))] = of_chunk[static_cast<size_t>(chunk)];
    }
  }

  std::vector<std::vector<int>> numbers(other.size());
  int number = 0;
  while (number < blocks.begin) numbers.front().push_back(number++);
  for (size_t v = 0; v < numbers.size(); ++v) {
    for (int block = 0; block < blocks_of[v]; ++block) numbers[v].push_back(number++);
  }
  while (number < static_cast<int>(modules.size())) numbers.back().push_back(number++);
  return numbers;
}

Role RoleOf(const ModelConfig& config, const std::vector<int>& numbers) {
  const std::vector<ModuleSpec> modules = ModulesOf(config);
  Role role;
  for (const int number : numbers) {
    const ModuleSpec& module = modules[static_cast<size_t>(number)];
    role.reads_inputs |= module.reads_inputs;
    role.reads_targets |= module.reads_targets;
    role.makes_losses |= module.makes_losses;
  }
  return role;
}

double ModelFlopsPerToken(const ModelConfig& config, int64_t sequence_length) {
  const std::vector<ModuleSpec> modules = ModulesOf(config);
  const Blocks blocks = BlocksOf(modules);
  const Flops flops = FlopsOf(modules, blocks, sequence_length);
  return flops.before + blocks.size() * flops.block + flops.behind;
}

}  // namespace trefoil
