#include "parallel/parameter_store.h"

#include <algorithm>
#include <set>

#include "runtime/ops.h"
#include "runtime/random.h"

namespace trefoil {

ParameterStore::ParameterStore(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& modules,
                               Device& device, StoreOptions options)
    : mesh_(mesh), modules_(modules), options_(std::move(options)), device_(device) {
  const DType working = options_.working;
  CHECK_GE(options_.split_optimizer, options_.split_gradients);
  CHECK_GE(options_.split_gradients, options_.split_weights);
  CHECK(!options_.split_gradients || options_.group_sums == 0);
  for (Bucket& bucket : PlaceParameters(table, mesh, modules, options_.optimizer, options_.split_optimizer,
                                         options_.copies)) {
    const int64_t n = bucket.elements;
    const Sharing sharing = SharingOf(mesh, bucket.replicas, options_.copies);
    const int64_t shard = options_.split_optimizer ? n / sharing.shares : n;
    BucketMemory memory;
    memory.shard_begin = options_.split_optimizer ? shard * sharing.share : 0;
    memory.bucket = std::move(bucket);
    memory.split_weights = options_.split_weights && shard < n;
    memory.split_gradients = options_.split_gradients && shard < n;
    // Zeros: whole with a share that is a range of it, or the share alone.
    const auto take = [&](bool split, DType dtype, Purpose purpose, Tensor* whole, Tensor* of_shard) {
      const Tensor taken = device.Allocate(dtype, {split ? shard : n}, purpose);
      Fill(device, taken, 0);
      if (!split) *whole = taken;
      *of_shard = split ? taken : taken.Range(memory.shard_begin, {shard});
    };
    take(memory.split_weights, working, Purpose::kWeights, &memory.weights, &memory.weight_shard);
    if (working == DType::kFloat32) {
      memory.master = memory.weight_shard;
    } else if (options_.trainable) {
      memory.master = device.Allocate(DType::kFloat32, {shard}, Purpose::kOptimizer);
    }
    if (options_.trainable && memory.bucket.trained) {
      take(memory.split_gradients, DType::kFloat32, Purpose::kGradients, &memory.gradients, &memory.gradient_shard);
      for (int i = 0; i < options_.group_sums; ++i) {
        memory.group_sums.push_back(device.Allocate(DType::kFloat32, {n}, Purpose::kGradients));
      }
      for (size_t i = 0; i < OptimizerGroupOf(memory).state.size(); ++i) {
        memory.state.push_back(device.Allocate(DType::kFloat32, {shard}, Purpose::kOptimizer));
        Fill(device, memory.state.back(), 0);
      }
    }
    if (memory.master.defined()) Fill(device, memory.master, 0);
    buckets_.push_back(std::move(memory));
  }
  uses_.resize(buckets_.size());
  weight_uses_.resize(buckets_.size());
  for (const BucketMemory& memory : buckets_) {
    for (int state = -1; state < static_cast<int>(memory.state.size()); ++state) {
      state_buffers_.push_back({.memory = &memory, .state = state});
    }
  }
}

ParameterView ParameterStore::View(const std::vector<std::string>& names) const {
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    const auto& entries = buckets_[bucket].bucket.entries;
    auto first = std::find_if(entries.begin(), entries.end(),
                              [&](const BucketEntry& e) { return e.parameter->name == names.front(); });
    if (first == entries.end()) continue;
    CHECK_LE(names.size(), static_cast<size_t>(entries.end() - first)) << names.front();
    Shape shape = first->box.extent;
    for (size_t i = 1; i < names.size(); ++i) {
      const BucketEntry& entry = *(first + static_cast<ptrdiff_t>(i));
      CHECK_EQ(entry.parameter->name, names[i]) << "not stored behind " << names[i - 1];
      CHECK_EQ(entry.begin, (&entry - 1)->end()) << names[i] << " is not fused with " << names[i - 1];
      shape[0] += entry.box.extent[0];
    }
    return ParameterView(*this, bucket, first->begin, shape);
  }
  LOG(FATAL) << "this rank does not hold parameter " << names.front();
}

Tensor ParameterView::weight() const {
  if (!defined()) return Tensor();
  CHECK_GT(store_->weight_uses_[bucket_], 0)
      << "weights of module " << store_->buckets_[bucket_].bucket.module << " are not in use";
  return store_->buckets_[bucket_].weights.Range(begin_, shape_);
}

bool ParameterView::trained() const {
  return defined() && store_->options_.trainable && store_->buckets_[bucket_].bucket.trained;
}

Tensor ParameterView::gradient() const {
  if (!trained()) return Tensor();
  CHECK_GT(store_->uses_[bucket_], 0) << "gradients of module " << store_->buckets_[bucket_].bucket.module
                                      << " are not in use";
  const BucketMemory& memory = store_->buckets_[bucket_];
  if (memory.split_gradients && store_->uses_of_weights_alone_ > 0) {
    const Tensor apart = store_->device_.Allocate(DType::kFloat32, shape_, Purpose::kActivations);
    Fill(store_->device_, apart, 0);
    store_->apart_.push_back({.view = *this, .gradient = apart});
    return apart;
  }
  if (!memory.gradients.defined()) store_->bring_gradients_(bucket_);
  return memory.gradients.Range(begin_, shape_);
}

ParameterStore::Use::Use(const ParameterStore& store, int module, Purposes purposes)
    : store_(&store), module_(module), purposes_(purposes) {
  store.CountUse(module, purposes, 1);
  if (purposes != Purposes::kGradients && store.bring_weights_) store.bring_weights_(module);
}

ParameterStore::Use::~Use() {
  if (store_ != nullptr) store_->CountUse(module_, purposes_, -1);
}

void ParameterStore::CountUse(int module, Purposes purposes, int times) const {
  if (purposes == Purposes::kWeights) uses_of_weights_alone_ += times;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    if (!buckets_[bucket].bucket.UsedBy(module)) continue;
    uses_[bucket] += times;
    if (purposes != Purposes::kGradients) weight_uses_[bucket] += times;
  }
}

Tensor ParameterStore::Weight(const std::vector<std::string>& names) const {
  const ParameterView view = View(names);
  const BucketMemory& memory = buckets_[view.bucket_];
  CHECK(!memory.split_weights) << "weights of module " << memory.bucket.module << " are split";
  return memory.weights.Range(view.begin_, view.shape_);
}

Tensor ParameterStore::Gradient(const std::vector<std::string>& names) const {
  const ParameterView view = View(names);
  if (!view.trained()) return Tensor();
  const BucketMemory& memory = buckets_[view.bucket_];
  CHECK(!memory.split_gradients) << "gradients of module " << memory.bucket.module << " are split";
  return memory.gradients.Range(view.begin_, view.shape_);
}

void ParameterStore::Initialize(uint64_t seed, const AxisGroups& groups) {
  for (BucketMemory& memory : buckets_) {
    const int64_t begin = memory.shard_begin;
    for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
      const Parameter& parameter = *piece.parameter;
      const Tensor x = memory.master.Range(piece.begin - begin, piece.box.extent);
      if (parameter.initial == Initial::kNormal) {
        FillNormal(device_, x, parameter.shape, piece.box.offset, RandomKey(seed, parameter.name), parameter.deviation);
      } else {
        Fill(device_, x, parameter.initial == Initial::kOnes ? 1 : 0);
      }
    }
  }
  PublishMasterWeights(groups);
}

void ParameterStore::PublishMasterWeights(const AxisGroups& groups) {
  for (BucketMemory& memory : buckets_) {
    if (options_.working != DType::kFloat32) Cast(device_, memory.master, memory.weight_shard);
    GatherWeights(memory, groups);
  }
}

void ParameterStore::GatherWeights(BucketMemory& memory, const AxisGroups& groups) {
  if (memory.split_weights || memory.shard_elements() == memory.bucket.elements) return;
  groups.Shards(memory.bucket.replicas).AllGather(memory.weight_shard, memory.weights);
}

ParameterStore::Holders ParameterStore::HoldersOf(const Parameter& parameter) const {
  // Along the axes that neither split it nor, with a split optimizer, its state. The pipeline's stages hold different
  // modules. With a split optimizer there may be copies of the state.
  AxisSet elsewhere = parameter.split_over() | AxisSet::Of(AxisSplits::kPieces);
  if (options_.split_optimizer) elsewhere = elsewhere | parameter.replicated_over();
  const AxisSet same = AxisSet::All() - elsewhere;
  Holders holders = {.count = mesh_.size(same), .index = mesh_.index(same)};
  if (options_.split_optimizer) {
    const Sharing sharing = SharingOf(mesh_, parameter.replicated_over(), options_.copies);
    holders = {.count = holders.count * sharing.copies, .index = holders.index * sharing.copies + sharing.copy};
  }
  return holders;
}

bool ParameterStore::HasModuleOf(const Parameter& parameter) const {
  return std::find(modules_.begin(), modules_.end(), parameter.module) != modules_.end();
}

bool ParameterStore::Owns(const Parameter& parameter) const {
  return HasModuleOf(parameter) && HoldersOf(parameter).index == 0;
}

std::vector<Piece> ParameterStore::OwnedPieces(const BucketMemory& memory) const {
  // Who holds the same elements holds them in the same places: each takes a part of the buffer, of some parameters.
  std::set<Holders> of_parameters;
  for (const BucketEntry& entry : memory.bucket.entries) of_parameters.insert(HoldersOf(*entry.parameter));
  const int64_t n = memory.shard_elements();
  std::vector<Piece> owned;
  for (const Holders& holders : of_parameters) {
    const int64_t begin = memory.shard_begin + SplitBegin(n, holders.count, holders.index);
    const int64_t end = memory.shard_begin + SplitBegin(n, holders.count, holders.index + 1);
    for (Piece& piece : PiecesOf(memory.bucket, begin, end)) {
      const Parameter& parameter = *piece.parameter;
      if (HoldersOf(parameter) == holders && HasModuleOf(parameter)) owned.push_back(std::move(piece));
    }
  }
  return owned;
}

int64_t ParameterStore::most_copied_bytes() const {
  int64_t most = 0;
  for (const BucketMemory& memory : buckets_) {
    if (device_.host_addressable() && memory.master.defined()) continue;
    most = std::max(most, memory.shard_elements() * static_cast<int64_t>(sizeof(float)));
  }
  return most;
}

const Tensor& ParameterStore::TensorOf(const StateBuffer& buffer) const {
  if (buffer.state >= 0) return buffer.memory->state[static_cast<size_t>(buffer.state)];
  return buffer.memory->master.defined() ? buffer.memory->master : buffer.memory->weight_shard;
}

std::vector<std::pair<ShardedTensor, int64_t>> ParameterStore::SlicesOf(const StateBuffer& buffer,
                                                                        bool owned_only) const {
  const BucketMemory& memory = *buffer.memory;
  const int64_t begin = memory.shard_begin;
  const std::string prefix =
      buffer.state < 0 ? "" : OptimizerGroupOf(memory).state[static_cast<size_t>(buffer.state)] + "/";
  std::vector<std::pair<ShardedTensor, int64_t>> slices;
  const std::vector<Piece> pieces =
      owned_only ? OwnedPieces(memory) : PiecesOf(memory.bucket, begin, begin + memory.shard_elements());
  for (const Piece& piece : pieces) {
    slices.push_back({{.name = prefix + piece.parameter->name,
                       .dtype = DType::kFloat32,
                       .global = piece.parameter->shape,
                       .box = piece.box},
                      piece.begin - begin});
  }
  return slices;
}

ParameterStore::StatePart ParameterStore::State(int part, Elements elements) const {
  const StateBuffer& buffer = state_buffers_.at(static_cast<size_t>(part));
  StatePart state;
  state.of_weights = buffer.state < 0;
  state.tensor = TensorOf(buffer);
  auto slices = SlicesOf(buffer, elements == Elements::kOwned);
  int64_t first = buffer.memory->shard_elements(), end = 0;  // elements of the buffer in which the slices lie
  for (const auto& [slice, begin] : slices) {
    state.slices.push_back(slice);
    first = std::min(first, begin);
    end = std::max(end, begin + slice.box.extent.elements());
  }
  if (slices.empty() || elements == Elements::kNone) return state;
  if (elements == Elements::kOwned) {
    state.tensor = state.tensor.Range(first, {end - first});
    for (auto& [slice, begin] : slices) begin -= first;
  }
  auto* data = static_cast<std::byte*>(state.tensor.raw());
  const bool converted = state.tensor.dtype() != DType::kFloat32;
  if (!device_.host_addressable() || converted) {
    // Zeros where nothing is copied: a bucket's padding stays zero when the copy is taken back.
    state.copy = std::make_unique<std::byte[]>(static_cast<size_t>(state.tensor.elements()) * sizeof(float));
    data = state.copy.get();
    if (elements != Elements::kToFill) device_.Download(converted ? InFloat32(state.tensor) : state.tensor, data);
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    state.slices[i].data = data + slices[i].second * static_cast<int64_t>(sizeof(float));
  }
  return state;
}

std::vector<ParameterStore::StateRange> ParameterStore::OwnedState() const {
  std::vector<StateRange> ranges;
  for (const StateBuffer& buffer : state_buffers_) {
    for (auto& [slice, begin] : SlicesOf(buffer, /*owned_only=*/true)) {
      const Tensor tensor = TensorOf(buffer).Range(begin, slice.box.extent);
      ranges.push_back({.slice = std::move(slice), .tensor = tensor});
    }
  }
  return ranges;
}

void ParameterStore::TakeBack(const StatePart& part) {
  if (part.copy == nullptr) return;
  if (part.tensor.dtype() == DType::kFloat32) return device_.Upload(part.copy.get(), part.tensor);
  // Not all at once: weights may take all the memory but little.
  constexpr int64_t kPiece = int64_t{1} << 22;
  const int64_t elements = part.tensor.elements();
  const Tensor wide = device_.Allocate(DType::kFloat32, {std::min(kPiece, elements)}, Purpose::kWorkspace);
  for (int64_t begin = 0; begin < elements; begin += kPiece) {
    const Shape piece = {std::min(kPiece, elements - begin)};
    device_.Upload(part.copy.get() + begin * static_cast<int64_t>(sizeof(float)), wide.Range(0, piece));
    Cast(device_, wide.Range(0, piece), part.tensor.Range(begin, piece));
  }
}

Tensor ParameterStore::InFloat32(const Tensor& x) const {
  const Tensor wide = device_.Allocate(DType::kFloat32, x.shape(), Purpose::kWorkspace);
  Cast(device_, x, wide);
  return wide;
}

}  // namespace trefoil
