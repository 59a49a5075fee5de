#include "model/transformer.h"

#include "model/layers/head.h"
#include "model/layers/sample_head.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

// Of a stage's chunks.
std::vector<std::vector<int>> ModulesOfChunks(const std::vector<ModuleSpec>& modules, const StagePlace& place) {
  const auto numbers = ModulesOfVirtualStages(modules, place.virtual_stages);
  std::vector<std::vector<int>> of_chunks;
  for (int chunk = 0; chunk < place.virtual_stages.chunks(); ++chunk) {
    of_chunks.push_back(numbers[static_cast<size_t>(place.virtual_stages.Of(place.stage, chunk))]);
  }
  return of_chunks;
}

}  // namespace

std::vector<int> Transformer::Modules(const ModelConfig& config, const StagePlace& place) {
  std::vector<int> numbers;
  for (const std::vector<int>& of_chunk : ModulesOfChunks(ModulesOf(config), place)) {
    numbers.insert(numbers.end(), of_chunk.begin(), of_chunk.end());
  }
  return numbers;
}

Transformer::Transformer(const ModelConfig& config, const ParameterStore& store, const Context& context,
                         const StagePlace& place, std::function<void(int module)> module_added)
    : Transformer(ModulesOf(config), store, context, place, std::move(module_added)) {}

Transformer::Transformer(const std::vector<ModuleSpec>& modules, const ParameterStore& store, const Context& context,
                         const StagePlace& place, std::function<void(int module)> module_added)
    : store_(store), context_(context), module_added_(std::move(module_added)) {
  for (const std::vector<int>& numbers : ModulesOfChunks(modules, place)) {
    Chunk& chunk = chunks_.emplace_back();
    for (const int number : numbers) {
      chunk.parts.push_back({.number = number, .module = modules[static_cast<size_t>(number)].build(store)});
    }
    const auto behind = static_cast<size_t>(numbers.back()) + 1;
    chunk.input = modules[static_cast<size_t>(numbers.front())].takes;
    if (behind < modules.size()) chunk.output = modules[behind].takes;
  }
}

void Transformer::Begin(std::vector<MicroBatch> micro_batches) {
  const auto count = static_cast<int>(micro_batches.size());
  Begin(count, [made = std::move(micro_batches)](int number) { return made[static_cast<size_t>(number)]; });
}

void Transformer::Begin(int micro_batches, std::function<MicroBatch(int number)> make) {
  CHECK(saved_.empty() && weight_gradients_.empty()) << "the step before has backwards missing";
  make_ = std::move(make);
  micro_batches_ = std::vector<Running>(static_cast<size_t>(micro_batches));
  shape_.reset();
  losses_.assign(micro_batches_.size(), {});
}

const MicroBatch& Transformer::Batch(int micro_batch) {
  Running& running = micro_batches_[static_cast<size_t>(micro_batch)];
  CHECK_LT(running.chunks_done, static_cast<int>(chunks_.size())) << "micro-batch " << micro_batch << " is done";
  if (!running.batch) running.batch = make_(micro_batch);
  return *running.batch;
}

void Transformer::DoneWith(int micro_batch) {
  Running& running = micro_batches_[static_cast<size_t>(micro_batch)];
  if (++running.chunks_done == static_cast<int>(chunks_.size())) running.batch.reset();
}

std::vector<Tensor> Transformer::Losses(const std::string& name) const {
  std::vector<Tensor> named;
  for (const std::vector<Loss>& losses : losses_) {
    Tensor& found = named.emplace_back();
    for (const Loss& loss : losses) {
      if (loss.name != name) continue;
      CHECK(!found.defined()) << "two losses of a micro-batch are named " << name;
      found = loss.values;
    }
  }
  return named;
}

Tensors Transformer::New(const Shapes& shapes) {
  if (!shape_) shape_ = Batch(0).WithoutTensors();
  return New(shapes, *shape_);
}

Tensors Transformer::New(const Shapes& shapes, const MicroBatch& batch) const {
  Tensors tensors;
  for (const Shape& shape : shapes(context_, batch)) tensors.push_back(context_.New(shape));
  return tensors;
}

Tensors Transformer::NewInput(int chunk) { return New(chunks_[static_cast<size_t>(chunk)].input); }

Tensors Transformer::NewOutputGradient(int chunk) { return New(chunks_[static_cast<size_t>(chunk)].output); }

Tensors Transformer::Forward(int micro_batch, int chunk_index, const Tensors& input, bool divided) {
  const MicroBatch& batch = Batch(micro_batch);
  MicroBatch untrained = batch;
  untrained.training = false;
  Saved saved;
  Tensors x = input;
  for (const Part& part : chunks_[static_cast<size_t>(chunk_index)].parts) {
    const ParameterStore::Use use = store_.UseModule(part.number);
    ForwardPass pass = {.divided = divided};
    x = part.module->Forward(context_, IsTrained(part) ? batch : untrained, x, &pass);
    saved.push_back(std::move(pass.saved));
    for (Loss& loss : pass.losses) losses_[static_cast<size_t>(micro_batch)].push_back(std::move(loss));
  }
  if (batch.training) {
    saved_[{micro_batch, chunk_index}] = std::move(saved);
  } else {
    DoneWith(micro_batch);
  }
  return x;
}

Tensors Transformer::Backward(int micro_batch, int chunk, const Tensors& d_output) {
  Tensors dx = Backward(micro_batch, chunk, d_output, nullptr);
  DoneWith(micro_batch);
  return dx;
}

Tensors Transformer::BackwardInput(int micro_batch, int chunk, const Tensors& d_output) {
  const auto [queued, is_new] = weight_gradients_.try_emplace({micro_batch, chunk});
  CHECK(is_new);
  return Backward(micro_batch, chunk, d_output, &queued->second);
}

Tensors Transformer::Backward(int micro_batch, int chunk_index, const Tensors& d_output,
                              std::vector<Queued>* queued) {
  const std::vector<Part>& chunk = chunks_[static_cast<size_t>(chunk_index)].parts;
  const MicroBatch& batch = Batch(micro_batch);
  auto node = saved_.extract({micro_batch, chunk_index});
  CHECK(!node.empty()) << "backward of micro-batch " << micro_batch << " before its forward";
  Saved& saved = node.mapped();
  Tensors dx = d_output;
  for (size_t i = chunk.size(); i-- > 0;) {
    using Purposes = ParameterStore::Purposes;
    WeightGradients weights(/*at_once=*/queued == nullptr);
    if (IsTrained(chunk[i])) {
      const ParameterStore::Use use =
          store_.UseModule(chunk[i].number, queued == nullptr ? Purposes::kAll : Purposes::kWeights);
      dx = chunk[i].module->Backward(context_, batch, dx, std::move(saved[i]), weights);
    }
    for (const ParameterStore::Apart& apart : store_.TakeApart()) {
      weights.Add([this, apart] {
        const Tensor gradient = apart.view.gradient();
        Add(context_.device, gradient, apart.gradient, gradient);
      });
    }
    if (queued == nullptr) {
      AddedTo(chunk[i].number);
    } else {
      queued->push_back({.module = chunk[i].number, .weights = std::move(weights)});
    }
  }
  if (IsTrained(chunk.front())) return dx;
  // Nobody looks at it, but the schedule sends it.
  const Tensors unused = NewInput(chunk_index);
  for (const Tensor& x : unused) Fill(context_.device, x, 0);
  return unused;
}

void Transformer::BackwardWeight(int micro_batch, int chunk) {
  auto node = weight_gradients_.extract({micro_batch, chunk});
  CHECK(!node.empty()) << "weight gradients of micro-batch " << micro_batch << " before its backward";
  for (Queued& queued : node.mapped()) {
    const ParameterStore::Use use = store_.UseModule(queued.module, ParameterStore::Purposes::kGradients);
    queued.weights.Run();
    AddedTo(queued.module);
  }
  DoneWith(micro_batch);
}

std::vector<int> Transformer::ModulesUsed(const std::vector<Action>& actions) const {
  std::vector<int> used;
  for (const Action& action : actions) {
    const std::vector<Part>& parts = chunks_[static_cast<size_t>(action.chunk)].parts;
    if (action.kind == ActionKind::kForward) {
      for (const Part& part : parts) used.push_back(part.number);
    } else if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardInput) {
      for (size_t i = parts.size(); i-- > 0;) {
        if (IsTrained(parts[i])) used.push_back(parts[i].number);
      }
    }
  }
  return used;
}

void Transformer::AddedTo(int module) {
  if (module_added_) module_added_(module);
}

const std::vector<Transformer::Part>& Transformer::OnlyChunk() const {
  CHECK_EQ(chunks_.size(), 1u);
  return chunks_.front().parts;
}

Tensors Transformer::NewInput(const MicroBatch& batch) const {
  return New(chunks_.front().input, batch.WithoutTensors());
}

Tensors Transformer::Run(const MicroBatch& batch, Tensors x, int begin, int end) {
  CHECK(first_module() <= begin && begin <= end && end <= end_module() && !batch.training);
  for (int i = begin; i < end; ++i) {
    const Part& part = OnlyChunk()[static_cast<size_t>(i - first_module())];
    const ParameterStore::Use use = store_.UseModule(part.number);
    ForwardPass unused;
    x = part.module->Forward(context_, batch, x, &unused);
  }
  return x;
}

Tensor Transformer::Output(const MicroBatch& batch, const Tensor& x) {
  const Part& last = OnlyChunk().back();
  const ParameterStore::Use use = store_.UseModule(last.number);
  if (const auto* head = dynamic_cast<const Head*>(last.module.get())) return head->Logits(context_, x);
  const auto* head = dynamic_cast<const SampleHead*>(last.module.get());
  CHECK(head != nullptr) << "the model does not end with a head";
  return head->Output(context_, batch, x);
}

}  // namespace trefoil
