#include "training/saving/merge_adapters.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <cstring>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "model/layers/low_rank.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

// A whole tensor.
absl::StatusOr<std::vector<float>> Read(const CheckpointReader& reader, const CheckpointReader::TensorInfo& info) {
  std::vector<float> values(static_cast<size_t>(info.shape.elements()));
  ShardedTensor target = {.name = info.name, .dtype = info.dtype, .global = info.shape, .box = {}};
  target.box = {.offset = info.shape, .extent = info.shape};
  for (int i = 0; i < info.shape.rank(); ++i) target.box.offset[i] = 0;
  target.data = reinterpret_cast<std::byte*>(values.data());
  TREFOIL_RETURN_IF_ERROR(reader.Read(target));
  return values;
}

// W + scale B A. w: [outputs, inputs]; b: [outputs, rank]; a: [rank, inputs].
void AddProduct(const std::vector<float>& b, const std::vector<float>& a, size_t rank, double scale,
                std::vector<float>* w) {
  const size_t inputs = a.size() / rank, outputs = b.size() / rank;
  CHECK_EQ(w->size(), outputs * inputs);
  std::vector<double> row(inputs);
  for (size_t out = 0; out < outputs; ++out) {
    float* const weights = w->data() + out * inputs;
    row.assign(weights, weights + inputs);
    for (size_t r = 0; r < rank; ++r) {
      const double factor = scale * b[out * rank + r];
      for (size_t i = 0; i < inputs; ++i) row[i] += factor * a[r * inputs + i];
    }
    for (size_t i = 0; i < inputs; ++i) weights[i] = static_cast<float>(row[i]);
  }
}

class Merger {
 public:
  Merger(const CheckpointReader& reader, const LoraConfig& lora) : reader_(reader), lora_(lora) {
    for (const CheckpointReader::TensorInfo& info : reader.tensors()) {
      const bool of_optimizer = absl::StrContains(info.name, "/");
      if (!of_optimizer && !IsAdapter(info.name)) kept_.push_back(&info);
    }
  }

  int parts() const { return static_cast<int>(kept_.size()); }
  int matrices() const { return matrices_; }
  // Of what could not be read, whose part is then zeros.
  const absl::Status& status() const { return status_; }

  std::vector<ShardedTensor> Part(int i) {
    const CheckpointReader::TensorInfo& info = *kept_[static_cast<size_t>(i)];
    const absl::StatusOr<std::vector<float>> merged = Merged(info);
    status_.Update(merged.status());
    values_ = merged.ok() ? *merged : std::vector<float>(static_cast<size_t>(info.shape.elements()));
    ShardedTensor part = {.name = info.name, .dtype = DType::kFloat32, .global = info.shape, .box = {}};
    part.box = {.offset = info.shape, .extent = info.shape};
    for (int dim = 0; dim < info.shape.rank(); ++dim) part.box.offset[dim] = 0;
    part.data = reinterpret_cast<std::byte*>(values_.data());
    return {part};
  }

 private:
  absl::StatusOr<std::vector<float>> Merged(const CheckpointReader::TensorInfo& info) {
    TREFOIL_ASSIGN_OR_RETURN(std::vector<float> w, Read(reader_, info));
    const std::string prefix(absl::StripSuffix(info.name, ".weight"));
    const CheckpointReader::TensorInfo* const a = reader_.Find(prefix + ".lora_a");
    const CheckpointReader::TensorInfo* const b = reader_.Find(prefix + ".lora_b");
    if (a == nullptr || b == nullptr || prefix == info.name) return w;
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<float> narrow, Read(reader_, *a));
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<float> wide, Read(reader_, *b));
    AddProduct(wide, narrow, static_cast<size_t>(lora_.rank()), static_cast<double>(lora_.alpha()) / lora_.rank(), &w);
    ++matrices_;
    return w;
  }

  const CheckpointReader& reader_;
  const LoraConfig& lora_;
  std::vector<const CheckpointReader::TensorInfo*> kept_;
  std::vector<float> values_;  // of the part that is being written
  absl::Status status_;
  int matrices_ = 0;
};

}  // namespace

absl::StatusOr<MergedCheckpoint> MergeAdapters(FileSystem& fs, Group& alone, const std::string& checkpoint,
                                               const std::string& run) {
  CHECK_EQ(alone.size(), 1);
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, checkpoint));
  TREFOIL_ASSIGN_OR_RETURN(ModelConfig model, ModelOfText(reader.model(), checkpoint));
  if (model.lora().rank() == 0) {
    return absl::FailedPreconditionError(checkpoint +
                                         " is of a model without adapters (model.lora): there is nothing to merge");
  }
  const LoraConfig lora = model.lora();
  model.clear_lora();
  Merger merger(reader, lora);
  CheckpointContent content;
  content.step = reader.step();
  content.trainer_state = reader.trainer_state();
  content.model = ModelText(model);
  content.owner = "merge";
  content.may_write = [&] { return merger.status(); };
  content.parts = merger.parts();
  content.part = [&](int i) { return merger.Part(i); };
  TREFOIL_RETURN_IF_ERROR(WriteCheckpoint(fs, alone, run + "/checkpoints", content));
  return MergedCheckpoint{.path = CheckpointPath(run + "/checkpoints", reader.step()), .matrices = merger.matrices()};
}

}  // namespace trefoil
