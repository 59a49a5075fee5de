#include "training/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "checkpoint/reader.h"
#include "runtime/random.h"

namespace trefoil {

Generator::Generator(const ModelConfig& model, World& world, Device& device)
    : model_(model),
      device_(device),
      table_(DeclareModel(model)),
      group_(world.NewGroupOfAll(device)),
      store_(table_, Mesh({}, 0), Transformer::Modules(model, place_), device, {.trainable = false}),
      transformer_(model, store_, Context{.device = device, .tensor = *group_}, place_, nullptr) {
  CHECK_EQ(world.size(), 1);
}

absl::Status Generator::Load(FileSystem& fs, const std::string& checkpoint_folder) {
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, checkpoint_folder));
  for (int i = 0; i < store_.state_parts(); ++i) {
    const ParameterStore::StatePart part = store_.State(i, ParameterStore::Elements::kToFill);
    TREFOIL_RETURN_IF_ERROR(reader.Read(part.slices));
    store_.TakeBack(part);
  }
  return absl::OkStatus();
}

std::vector<float> Generator::NextLogits(std::span<const int32_t> ids) {
  CHECK(!ids.empty());
  const size_t longest = static_cast<size_t>(model_.sequence_length());
  if (ids.size() > longest) ids = ids.last(longest);
  const auto tokens = static_cast<int64_t>(ids.size());
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  MicroBatch batch;
  batch.samples = 1;
  batch.training = false;
  batch.input = {.tokens = tokens,
                 .ids = device_.Allocate(DType::kInt32, {tokens}, Purpose::kActivations),
                 .positions = device_.Allocate(DType::kInt32, {tokens}, Purpose::kActivations)};
  device_.Upload(ids.data(), batch.input.ids);
  device_.Upload(positions.data(), batch.input.positions);
  const Tensor logits = transformer_.NextTokenLogits(batch);
  std::vector<float> host(static_cast<size_t>(logits.elements()));
  device_.Download(logits, host.data());
  return host;
}

int32_t ChooseToken(std::span<const float> logits, const Sampling& sampling, uint64_t seed, uint64_t position) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), likelier);
  if (sampling.temperature == 0) return order.front();
  if (sampling.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(sampling.top_k)));

  const double highest = logits[static_cast<size_t>(order.front())];
  std::vector<double> weights;
  for (const int32_t token : order) {
    weights.push_back(std::exp((logits[static_cast<size_t>(token)] - highest) / sampling.temperature));
  }
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < sampling.top_p * total)) kept += weights[count++];

  double left = Uniform(RandomKey(seed, "generate"), position) * kept;
  for (size_t i = 0; i < count; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace trefoil
