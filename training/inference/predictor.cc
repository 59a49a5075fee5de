#include "training/inference/predictor.h"

#include <algorithm>
#include <utility>

#include "checkpoint/reader.h"
#include "model/families/recipe.h"
#include "model/model.h"
#include "parallel/placement.h"
#include "runtime/ops.h"
#include "training/upload.h"

namespace trefoil {
namespace {

constexpr int kTag = 0;  // of messages between stages, one under way at a time
// Logits over the full vocabulary that are made at once, in bytes.
constexpr int64_t kChunkBytes = int64_t{64} << 20;

RunConfig RunOf(const ModelConfig& model, const InferenceLayout& layout, const World& world) {
  RunConfig config;
  *config.mutable_model() = model;
  config.mutable_training()->set_precision(layout.precision);
  config.mutable_training()->set_global_batch(1);
  ParallelConfig* parallel = config.mutable_parallel();
  parallel->set_tensor(layout.tensor);
  parallel->set_pipeline(layout.pipeline);
  parallel->set_context(1);
  parallel->set_data(world.size() / (layout.tensor * layout.pipeline));
  return config;
}

VirtualStages StagesOf(const RunConfig& config) {
  return VirtualStages(VirtualStages::Order::kLoop, config.parallel().pipeline(), /*chunks=*/1);
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

// The row of each prefix's last token.
std::vector<int32_t> LastRows(std::span<const Prefix> prefixes, int64_t length) {
  std::vector<int32_t> last;
  for (const Prefix& prefix : prefixes) {
    last.push_back(
        static_cast<int32_t>(static_cast<int64_t>(last.size()) * length + static_cast<int64_t>(prefix.ids.size()) - 1));
  }
  return last;
}

std::vector<float> Download(Device& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.elements()));
  device.Download(x, values.data());
  return values;
}

}  // namespace

Predictor::Predictor(const ModelConfig& model, const InferenceLayout& layout, World& world, Device& device)
    : config_(RunOf(model, layout, world)),
      device_(device),
      mesh_(MeshSizes(config_.parallel()), world.rank()),
      all_(world.all()),
      table_(DeclareModel(model)),
      groups_(world, mesh_, device, {Axis::kTensor, Axis::kPipeline}),
      tensor_(groups_[Axis::kTensor]),
      pipeline_(groups_[Axis::kPipeline]),
      place_{.stage = mesh_.index(Axis::kPipeline), .virtual_stages = StagesOf(config_)},
      store_(table_, mesh_, Transformer::Modules(model, place_), device,
             {.working = WorkingDType(layout.precision), .trainable = false}),
      network_(model, store_,
               Context{.device = device,
                       .tensor = tensor_,
                       .dtype = WorkingDType(layout.precision),
                       .attention_probe = &probe_},
               place_, nullptr),
      head_(static_cast<int>(ModulesOf(model).size()) - 1),
      decoder_(DecoderOf(model)) {
  CHECK_EQ(MeshSizes(config_.parallel()).ranks(), world.size());
}

absl::Status Predictor::Load(FileSystem& fs, const std::string& checkpoint_folder) {
  TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::OpenOnAll(fs, all_, checkpoint_folder));
  std::vector<ShardedTensor> wanted;
  for (int i = 0; i < store_.state_parts(); ++i) {
    const ParameterStore::StatePart part = store_.State(i, ParameterStore::Elements::kNone);
    wanted.insert(wanted.end(), part.slices.begin(), part.slices.end());
  }
  TREFOIL_RETURN_IF_ERROR(reader.Locate(all_, wanted));
  absl::Status read;
  for (int i = 0; i < store_.state_parts() && read.ok(); ++i) {
    const ParameterStore::StatePart part = store_.State(i, ParameterStore::Elements::kToFill);
    read = reader.Read(part.slices);
    if (read.ok()) store_.TakeBack(part);
  }
  return all_.Agree(read);
}

MicroBatch Predictor::Upload(const Batch& batch, int begin, int end) const {
  std::vector<int> modules;
  for (int i = std::max(begin, network_.first_module()); i < std::min(end, network_.end_module()); ++i) {
    modules.push_back(i);
  }
  const Reader reader = {.config = config_, .role = RoleOf(config_.model(), modules), .tensor = tensor_, .device = device_};
  const BatchShape shape = {.samples = batch.samples,
                            .tokens = batch.length,
                            .decoder_tokens = batch.decoder_inputs.defined() ? batch.decoder_inputs.shape()[1]
                                                                             : config_.model().decoder_length()};
  return UploadMicroBatch(reader, batch, UploadConstants(reader, shape), /*training=*/false);
}

Tensors Predictor::Pass(const MicroBatch& batch, Tensors x, int begin, int end) {
  const int first = network_.first_module(), behind = network_.end_module(), stage = place_.stage;
  if (begin < first && first <= end) {
    x = network_.NewInput(batch);
    for (const Tensor& part : x) pipeline_.Receive(part, stage - 1, kTag);
  }
  const int from = std::max(begin, first), to = std::min(end, behind);
  if (from < to) x = network_.Run(batch, std::move(x), from, to);
  if (begin < behind && behind <= end) {
    for (const Tensor& part : x) pipeline_.Send(part, stage + 1, kTag);
    pipeline_.FinishSends();
  }
  return first <= end && end < behind ? x : Tensors();
}

Tensor Predictor::Floats(Shape shape) const {
  return device_.Allocate(DType::kFloat32, shape, Purpose::kActivations);
}

Tensor Predictor::UploadIds(const std::vector<int32_t>& ids) const {
  const Tensor x = device_.Allocate(DType::kInt32, {static_cast<int64_t>(ids.size())}, Purpose::kActivations);
  device_.Upload(ids.data(), x);
  return x;
}

Tensor Predictor::Chosen(const Tensor& x, const std::vector<int32_t>& rows) const {
  const Tensor y = device_.Allocate(x.dtype(), {static_cast<int64_t>(rows.size()), x.dim(1)}, Purpose::kActivations);
  Embedding(device_, UploadIds(rows), x, 0, y);
  return y;
}

Tensor Predictor::LogSumExp(const Tensor& logits, const Tensor& targets, bool of_vocabulary, const Tensor& loss,
                            const Tensor& correct) {
  const int parts = of_vocabulary ? tensor_.size() : 1, part = of_vocabulary ? tensor_.rank() : 0;
  const int64_t rows = logits.dim(0);
  const Tensor statistics = Floats({parts, rows, 3}), log_sum_exp = Floats({rows});
  const Tensor mine = statistics.Rows(part, part + 1).View({rows, 3});
  CrossEntropyStatistics(device_, logits, targets,
                         of_vocabulary ? SplitBegin(config_.model().vocabulary(), parts, part) : 0, mine);
  if (of_vocabulary) tensor_.AllGather(mine, statistics.View({parts * rows, 3}));
  CrossEntropyCombine(device_, statistics, Tensor(), loss, log_sum_exp, {}, correct);
  return log_sum_exp;
}

Rows Predictor::LogProbabilities(const Tensor& logits, bool of_vocabulary) {
  const int64_t rows = logits.dim(0);
  const Tensor any_target = UploadIds(std::vector<int32_t>(static_cast<size_t>(rows)));
  const Tensor log_sum_exp = LogSumExp(logits, any_target, of_vocabulary, Floats({rows}), Tensor());
  const int parts = of_vocabulary ? tensor_.size() : 1;
  const int64_t all = of_vocabulary ? config_.model().vocabulary() : logits.dim(1);
  Tensor gathered = logits;
  if (parts > 1) {
    // Parts differ by one column at most.
    const int64_t widest = (all + parts - 1) / parts;
    Tensor mine = logits;
    if (logits.dim(1) < widest) {
      mine = Floats({rows, widest});
      Fill(device_, mine, 0);
      CopyColumns(device_, {logits, 0}, logits.dim(1), {mine, 0});
    }
    gathered = Floats({parts * rows, widest});
    tensor_.AllGather(mine, gathered);
  }
  const std::vector<float> values = Download(device_, gathered), sums = Download(device_, log_sum_exp);
  Rows result = {.columns = all, .values = std::vector<float>(static_cast<size_t>(rows * all))};
  for (int part = 0; part < parts; ++part) {
    const int64_t first = SplitBegin(all, parts, part), columns = SplitBegin(all, parts, part + 1) - first;
    for (int64_t row = 0; row < rows; ++row) {
      const auto from = values.begin() + (part * rows + row) * gathered.dim(1);
      const float sum = sums[static_cast<size_t>(row)];
      std::transform(from, from + columns, result.values.begin() + row * all + first,
                     [sum](float logit) { return logit - sum; });
    }
  }
  return result;
}

Rows Predictor::ToAllStages(Rows rows) {
  if (pipeline_.size() == 1) return rows;
  double sizes[] = {static_cast<double>(rows.columns), static_cast<double>(rows.count())};
  pipeline_.AllReduceMax(std::span(sizes));
  const auto columns = static_cast<int64_t>(sizes[0]), count = static_cast<int64_t>(sizes[1]);
  const Tensor x = Floats({count, columns});
  if (has_head()) device_.Upload(rows.values.data(), x);
  pipeline_.Broadcast(x, pipeline_.size() - 1);
  return {.columns = columns, .values = has_head() ? std::move(rows.values) : Download(device_, x)};
}

Rows Predictor::Outputs(const Batch& batch) {
  const MicroBatch uploaded = Upload(batch, 0, head_ + 1);
  const Tensors x = Pass(uploaded, {}, 0, head_);
  Rows rows;
  if (has_head()) {
    const Tensor output = network_.Output(uploaded, x.front());
    const bool of_numbers = model().head() == ModelConfig::VALUE || model().head() == ModelConfig::PATCHES;
    rows = of_numbers ? Rows{.columns = output.dim(1), .values = Download(device_, output)}
                      : LogProbabilities(output, model().head() == ModelConfig::TOKENS);
  }
  return ToAllStages(std::move(rows));
}

Tensor Predictor::BeforeHead(const MicroBatch& batch) {
  const Tensors x = Pass(batch, {}, 0, head_);
  return x.empty() ? Tensor() : x.front();
}

Rows Predictor::NextOf(const MicroBatch& batch, const Tensor& before_head, const std::vector<int32_t>& rows) {
  Rows next;
  if (has_head()) next = LogProbabilities(network_.Output(batch, Chosen(before_head, rows)), /*of_vocabulary=*/true);
  return ToAllStages(std::move(next));
}

std::vector<TokenScore> Predictor::ScoreOf(const MicroBatch& batch, const Tensor& before_head, const Tensor& targets) {
  Rows numbers = {.columns = 2, .values = {}};  // of each target: its loss, and whether none is likelier
  if (has_head()) {
    const int64_t rows = before_head.dim(0);
    const int64_t chunk = std::clamp<int64_t>(kChunkBytes / (4 * model().vocabulary()), std::min<int64_t>(rows, 64), rows);
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t end = std::min(rows, begin + chunk);
      const Tensor loss = Floats({end - begin}), correct = Floats({end - begin});
      LogSumExp(network_.Output(batch, before_head.Rows(begin, end)), targets.Rows(begin, end), /*of_vocabulary=*/true,
                loss, correct);
      const std::vector<float> losses = Download(device_, loss), likeliest = Download(device_, correct);
      for (size_t i = 0; i < losses.size(); ++i) numbers.values.insert(numbers.values.end(), {losses[i], likeliest[i]});
    }
  }
  numbers = ToAllStages(std::move(numbers));
  std::vector<TokenScore> scores;
  for (int64_t i = 0; i < numbers.count(); ++i) {
    scores.push_back({.log_probability = -numbers[i][0], .likeliest = numbers[i][1] != 0});
  }
  return scores;
}

std::vector<TokenScore> Predictor::Score(const Batch& batch) {
  CHECK_EQ(model().head(), ModelConfig::TOKENS);
  const MicroBatch uploaded = Upload(batch, 0, head_ + 1);
  return ScoreOf(uploaded, BeforeHead(uploaded), uploaded.targets);
}

Rows Predictor::Next(std::span<const Prefix> prefixes) {
  std::vector<Prefix> seen(prefixes.begin(), prefixes.end());
  const auto context = static_cast<size_t>(model().sequence_length());
  for (Prefix& prefix : seen) prefix.ids = prefix.ids.last(std::min(prefix.ids.size(), context));
  Batch batch = {.samples = static_cast<int64_t>(seen.size()), .length = LongestOf(seen)};
  batch.inputs = Padded(seen, batch.length);
  const MicroBatch uploaded = Upload(batch, 0, head_ + 1);
  return NextOf(uploaded, BeforeHead(uploaded), LastRows(seen, batch.length));
}

Predictor::Memory Predictor::Encode(const Batch& batch) {
  const MicroBatch uploaded = Upload(batch, 0, decoder_);
  const Tensors states = Pass(uploaded, {}, 0, decoder_);
  Memory memory = {.states = states.empty() ? Tensor() : states.front(), .tokens = batch.length, .lengths = {}};
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
  const MicroBatch uploaded = Upload(batch, decoder_, head_ + 1);
  const Tensors encoded = memory.states.defined() ? Tensors{Chosen(memory.states, rows)} : Tensors();
  const Tensors x = Pass(uploaded, encoded, decoder_, head_);
  return NextOf(uploaded, x.empty() ? Tensor() : x.front(), LastRows(prefixes, length));
}

}  // namespace trefoil
