#include "training/inference/predictor.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "checkpoint/reader.h"
#include "model/families/recipe.h"
#include "model/model.h"
#include "runtime/ops.h"
#include "training/upload.h"

namespace trefoil {
namespace {

RunConfig RunOf(const ModelConfig& model) {
  RunConfig config;
  *config.mutable_model() = model;
  config.mutable_training()->set_precision(TrainingConfig::FP32);
  config.mutable_training()->set_global_batch(1);
  return config;
}

// The first module of the decoder; of a network that has none of its own the head.
int DecoderOf(const ModelConfig& model) {
  const std::vector<ModuleSpec> modules = ModulesOf(model);
  const auto reads = [](const ModuleSpec& module) { return module.role.reads_decoder; };
  const auto first = std::find_if(modules.begin(), modules.end() - 1, reads);
  return static_cast<int>(first - modules.begin());
}

int64_t LongestOf(std::span<const Prefix> prefixes) {
  size_t longest = 0;
  for (const Prefix& prefix : prefixes) longest = std::max(longest, prefix.ids.size());
  return static_cast<int64_t>(longest);
}

// [prefixes, length]. What is behind a prefix is not seen by it.
HostTensor Padded(std::span<const Prefix> prefixes, int64_t length) {
  HostTensor ids = HostTensor::Zeros(DType::kInt32, {static_cast<int64_t>(prefixes.size()), length});
  auto row = ids.values<int32_t>().begin();
  for (const Prefix& prefix : prefixes) {
    CHECK(!prefix.ids.empty());
    std::copy(prefix.ids.begin(), prefix.ids.end(), row);
    row += length;
  }
  return ids;
}

Tensor UploadIds(Device& device, const std::vector<int32_t>& ids) {
  const Tensor x = device.Allocate(DType::kInt32, {static_cast<int64_t>(ids.size())}, Purpose::kActivations);
  device.Upload(ids.data(), x);
  return x;
}

Tensor RowsOf(Device& device, const Tensor& x, const std::vector<int32_t>& rows) {
  const Tensor y = device.Allocate(x.dtype(), {static_cast<int64_t>(rows.size()), x.dim(1)}, Purpose::kActivations);
  Embedding(device, UploadIds(device, rows), x, 0, y);
  return y;
}

Rows Download(Device& device, const Tensor& x) {
  Rows rows = {.columns = x.dim(1), .values = std::vector<float>(static_cast<size_t>(x.elements()))};
  device.Download(x, rows.values.data());
  return rows;
}

}  // namespace

Predictor::Predictor(const ModelConfig& model, World& world, Device& device)
    : config_(RunOf(model)),
      device_(device),
      table_(DeclareModel(model)),
      group_(world.NewGroupOfAll(device)),
      store_(table_, Mesh({}, 0), Transformer::Modules(model, place_), device, {.trainable = false}),
      network_(model, store_, Context{.device = device, .tensor = *group_, .attention_probe = &probe_}, place_, nullptr),
      decoder_(DecoderOf(model)) {
  CHECK_EQ(world.size(), 1);
}

absl::Status Predictor::Load(FileSystem& fs, const std::string& checkpoint_folder) {
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, checkpoint_folder));
  for (int i = 0; i < store_.state_parts(); ++i) {
    const ParameterStore::StatePart part = store_.State(i, ParameterStore::Elements::kToFill);
    TREFOIL_RETURN_IF_ERROR(reader.Read(part.slices));
    store_.TakeBack(part);
  }
  return absl::OkStatus();
}

MicroBatch Predictor::Upload(const Batch& batch, int begin, int end) const {
  std::vector<int> modules(static_cast<size_t>(end - begin));
  std::iota(modules.begin(), modules.end(), begin);
  const Reader reader = {
      .config = config_, .role = RoleOf(config_.model(), modules), .tensor = *group_, .device = device_};
  const BatchShape shape = {.samples = batch.samples,
                            .tokens = batch.length,
                            .decoder_tokens = batch.decoder_inputs.defined() ? batch.decoder_inputs.shape()[1]
                                                                             : config_.model().decoder_length()};
  return UploadMicroBatch(reader, batch, UploadConstants(reader, shape), /*training=*/false);
}

Rows Predictor::LogProbabilities(const Tensor& logits) {
  const int64_t rows = logits.dim(0);
  const auto floats = [&](Shape shape) { return device_.Allocate(DType::kFloat32, shape, Purpose::kActivations); };
  const Tensor statistics = floats({1, rows, 3}), loss = floats({rows}), log_sum_exp = floats({rows});
  const Tensor any_target = UploadIds(device_, std::vector<int32_t>(static_cast<size_t>(rows)));
  CrossEntropyStatistics(device_, logits, any_target, 0, statistics.View({rows, 3}));
  CrossEntropyCombine(device_, statistics, Tensor(), loss, log_sum_exp);
  Rows result = Download(device_, logits);
  const Rows sums = Download(device_, log_sum_exp.View({rows, 1}));
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = result.values.begin() + row * result.columns;
    const float sum = sums[row][0];
    std::transform(begin, begin + result.columns, begin, [sum](float logit) { return logit - sum; });
  }
  return result;
}

Rows Predictor::Outputs(const Batch& batch) {
  const MicroBatch uploaded = Upload(batch, 0, network_.modules());
  const Tensor output = network_.Output(uploaded, network_.Run(uploaded, {}, 0, network_.modules() - 1).front());
  const bool of_numbers = model().head() == ModelConfig::VALUE || model().head() == ModelConfig::PATCHES;
  return of_numbers ? Download(device_, output) : LogProbabilities(output);
}

Rows Predictor::NextOf(const MicroBatch& batch, const Tensor& x, int64_t length, std::span<const Prefix> prefixes) {
  std::vector<int32_t> last;
  for (const Prefix& prefix : prefixes) {
    last.push_back(
        static_cast<int32_t>(static_cast<int64_t>(last.size()) * length + static_cast<int64_t>(prefix.ids.size()) - 1));
  }
  return LogProbabilities(network_.Output(batch, RowsOf(device_, x, last)));
}

Rows Predictor::Next(std::span<const Prefix> prefixes) {
  std::vector<Prefix> seen(prefixes.begin(), prefixes.end());
  const auto context = static_cast<size_t>(model().sequence_length());
  for (Prefix& prefix : seen) prefix.ids = prefix.ids.last(std::min(prefix.ids.size(), context));
  Batch batch = {.samples = static_cast<int64_t>(seen.size()), .length = LongestOf(seen)};
  batch.inputs = Padded(seen, batch.length);
  const MicroBatch uploaded = Upload(batch, 0, network_.modules());
  return NextOf(uploaded, network_.Run(uploaded, {}, 0, decoder_).front(), batch.length, seen);
}

Predictor::Memory Predictor::Encode(const Batch& batch) {
  const MicroBatch uploaded = Upload(batch, 0, decoder_);
  Memory memory = {.states = network_.Run(uploaded, {}, 0, decoder_).front(), .tokens = batch.length, .lengths = {}};
  memory.lengths.assign(static_cast<size_t>(batch.samples), static_cast<int32_t>(batch.length));
  if (batch.lengths.defined()) memory.lengths = batch.lengths.values<int32_t>();
  return memory;
}

Rows Predictor::Next(const Memory& memory, std::span<const Prefix> prefixes) {
  const auto count = static_cast<int64_t>(prefixes.size()), length = LongestOf(prefixes);
  CHECK_LE(length, model().decoder_length());
  Batch batch = {.samples = count, .length = memory.tokens};
  batch.decoder_inputs = Padded(prefixes, length);
  std::vector<int32_t> lengths, rows;
  for (const Prefix& prefix : prefixes) {
    lengths.push_back(memory.lengths.at(static_cast<size_t>(prefix.text)));
    for (int64_t t = 0; t < memory.tokens; ++t) rows.push_back(static_cast<int32_t>(prefix.text * memory.tokens + t));
  }
  batch.lengths = HostTensor(std::move(lengths), {count});
  const MicroBatch uploaded = Upload(batch, decoder_, network_.modules());
  const Tensors encoded = {RowsOf(device_, memory.states, rows)};
  const Tensor x = network_.Run(uploaded, encoded, decoder_, network_.modules() - 1).front();
  return NextOf(uploaded, x, length, prefixes);
}

}  // namespace trefoil
