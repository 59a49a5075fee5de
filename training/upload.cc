#include "training/upload.h"

#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "model/families/recipe.h"
#include "model/patches.h"
#include "model/relative_positions.h"
#include "model/sinusoids.h"
#include "model/time_steps.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

// What layers take of it: rows, or rows and columns.
enum class Layout { kRows, kColumns };
Shape Flat(const HostTensor& x, Layout layout) {
  const int64_t elements = x.shape().elements(), last = x.shape()[x.shape().rank() - 1];
  return layout == Layout::kColumns ? Shape{elements / last, last} : Shape{elements};
}

HostTensor Ids(std::vector<int32_t> ids) {
  const auto n = static_cast<int64_t>(ids.size());
  return HostTensor(std::move(ids), {n});
}

// Row b * length + place of each of a batch's places [B, U], and of each row the number of its place, -1 where none is.
struct Rows {
  std::vector<int32_t> rows, numbers;
};
Rows RowsOf(const HostTensor& places, int64_t length) {
  const int64_t samples = places.shape()[0], of_sample = places.shape()[1];
  Rows rows;
  rows.numbers.assign(static_cast<size_t>(samples * length), -1);
  for (int64_t i = 0; i < samples * of_sample; ++i) {
    const int64_t row = i / of_sample * length + places.values<int32_t>()[static_cast<size_t>(i)];
    rows.rows.push_back(static_cast<int32_t>(row));
    rows.numbers.at(static_cast<size_t>(row)) = static_cast<int32_t>(i);
  }
  return rows;
}

// Visits each tensor that this rank uploads, with its place in the micro-batch.
class Uploads {
 public:
  using Visit = std::function<void(const HostTensor& x, Layout layout, Tensor* to)>;
  Uploads(const Reader& reader, const Batch& batch, Visit visit)
      : reader_(reader), model_(reader.config.model()), recipe_(RecipeOf(model_)), batch_(batch), visit_(std::move(visit)) {}

  void All(MicroBatch* to) const {
    const Role& role = reader_.role;
    if (role.reads_inputs) Inputs(to);
    if (role.reads_decoder) Decoder(to);
    if (role.reads_lengths) Lengths(to);
    if (role.reads_targets) Targets(to);
  }

 private:
  void Inputs(MicroBatch* to) const {
    Give(batch_.inputs, &to->input.ids);
    if (recipe_.segments) {
      const bool given = batch_.segments.defined();
      Give(given ? batch_.segments : HostTensor::Zeros(DType::kInt32, batch_.inputs.shape()), &to->segments);
    }
    if (!batch_.patches.defined()) return;
    Give(batch_.patches, &to->patches, Layout::kColumns);
    Give(batch_.patch_places, &to->patch_places);
    std::vector<int32_t> kinds;
    for (const int32_t place : batch_.patch_places.values<int32_t>()) kinds.push_back(place == 0 ? 1 : 0);
    Give(Ids(std::move(kinds)), &to->patch_kinds);
  }

  void Decoder(MicroBatch* to) const {
    Give(batch_.decoder_inputs, &to->decoder.ids);
    if (!batch_.patch_places.defined()) return;
    // The decoder has a row for each place of the image.
    Rows rows = RowsOf(batch_.patch_places, model_.decoder_length());
    std::vector<int32_t> masked;
    for (const int32_t visible : rows.numbers) masked.push_back(visible < 0 ? 0 : -1);
    Give(Ids(std::move(rows.rows)), &to->rows_of_visible);
    Give(Ids(std::move(rows.numbers)), &to->visible_rows);
    Give(Ids(std::move(masked)), &to->masked);
  }

  void Lengths(MicroBatch* to) const {
    Give(batch_.lengths, &to->input.lengths);
    if (recipe_.structure != Recipe::Structure::kRecurrent) return;
    const std::vector<int32_t> whole(static_cast<size_t>(batch_.samples), static_cast<int32_t>(batch_.length));
    TimeStepTables tables =
        TimeStepsOf(batch_.lengths.defined() ? batch_.lengths.values<int32_t>() : whole, batch_.length,
                    model_.bidirectional() ? 2 : 1, reader_.tensor.size(), reader_.tensor.rank());
    TimeSteps& steps = to->time_steps;
    Give(Ids(std::move(tables.rows_of_steps)), &steps.rows_of_steps);
    Give(Ids(std::move(tables.parts_of_steps)), &steps.parts_of_steps);
    Give(Ids(std::move(tables.steps_of_rows)), &steps.steps_of_rows);
    Give(Ids(std::move(tables.outputs_of_rows)), &steps.outputs_of_rows);
    Give(Ids(std::move(tables.columns_of_ranks)), &steps.columns_of_ranks);
    Give(Ids(std::move(tables.ranks_of_columns)), &steps.ranks_of_columns);
  }

  void Targets(MicroBatch* to) const {
    Give(batch_.targets, &to->targets);
    Give(batch_.values, &to->values, Layout::kColumns);
    Give(batch_.weights, &to->weights);
    if (!batch_.places.defined()) return;
    Rows rows = RowsOf(batch_.places, model_.head() == ModelConfig::PATCHES ? model_.decoder_length() : batch_.length);
    Give(Ids(std::move(rows.rows)), &to->target_rows);
    Give(Ids(std::move(rows.numbers)), &to->row_targets);
  }

  void Give(const HostTensor& x, Tensor* to, Layout layout = Layout::kRows) const {
    if (x.defined()) visit_(x, layout, to);
  }

  const Reader& reader_;
  const ModelConfig& model_;
  const Recipe recipe_;
  const Batch& batch_;
  const Visit visit_;
};

Tensor Upload(const Reader& reader, const HostTensor& x, const Shape& shape) {
  const Tensor tensor = reader.device.Allocate(x.dtype(), shape, Purpose::kActivations);
  reader.device.Upload(x.data(), tensor);
  return tensor;
}

// [T, C], in the working dtype.
Tensor UploadSinusoids(const Reader& reader, int64_t tokens) {
  const int64_t columns = reader.config.model().hidden();
  const Shape shape = {tokens, columns};
  const Tensor exact = Upload(reader, HostTensor(Sinusoids(tokens, columns), shape), shape);
  const DType dtype = WorkingDType(reader.config.training().precision());
  if (dtype == DType::kFloat32) return exact;
  const Tensor table = reader.device.Allocate(dtype, shape, Purpose::kActivations);
  Cast(reader.device, exact, table);
  return table;
}

// Row modulo the length, of one micro-batch.
Tensor UploadPositions(const Reader& reader, int64_t samples, int64_t tokens) {
  std::vector<int32_t> positions(static_cast<size_t>(samples * tokens));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % tokens);
  const HostTensor x = Ids(std::move(positions));
  return Upload(reader, x, x.shape());
}

Sequences ConstantsOf(const Reader& reader, int64_t samples, int64_t tokens, bool embeds, bool both_ways) {
  const Recipe recipe = RecipeOf(reader.config.model());
  Sequences sequences = {.tokens = tokens};
  if (tokens == 0) return sequences;
  if (embeds) sequences.positions = UploadPositions(reader, samples, tokens);
  if (embeds && recipe.positions == Recipe::Positions::kSinusoidal) {
    sequences.sinusoids = UploadSinusoids(reader, tokens);
  }
  if (reader.role.reads_lengths && recipe.positions == Recipe::Positions::kRelative) {
    const HostTensor buckets = Ids(RelativeBuckets(tokens, both_ways));
    sequences.buckets = Upload(reader, buckets, buckets.shape());
  }
  return sequences;
}

}  // namespace

int64_t GlobalTargets(const RunConfig& config) {
  return config.training().global_batch() * int64_t{config.model().targets()};
}

Constants UploadConstants(const Reader& reader, const BatchShape& shape) {
  const auto of = [&](int64_t tokens, bool embeds, bool both_ways) {
    return ConstantsOf(reader, shape.samples, tokens, embeds, both_ways);
  };
  return {.input = of(shape.tokens, reader.role.reads_inputs, /*both_ways=*/true),
          .decoder = of(shape.decoder_tokens, reader.role.reads_decoder, /*both_ways=*/false)};
}

Constants UploadConstants(const Reader& reader) {
  const ModelConfig& model = reader.config.model();
  return UploadConstants(reader, {.samples = reader.config.training().micro_batch(),
                                  .tokens = model.sequence_length(),
                                  .decoder_tokens = model.decoder_length()});
}

MicroBatch UploadMicroBatch(const Reader& reader, const Batch& batch, const Constants& constants, bool training) {
  MicroBatch uploaded = {.samples = batch.samples,
                         .first_sample = batch.first_sample,
                         .training = training,
                         .loss_scale = static_cast<float>(1 / static_cast<double>(GlobalTargets(reader.config))),
                         .label_smoothing = reader.config.task().label_smoothing(),
                         .input = constants.input,
                         .decoder = constants.decoder,
                         .targets_of_sample = reader.config.model().targets()};
  Uploads(reader, batch, [&](const HostTensor& x, Layout layout, Tensor* to) {
    *to = Upload(reader, x, Flat(x, layout));
  }).All(&uploaded);
  return uploaded;
}

void UploadAgain(const Worker& worker, const Batch& batch, const MicroBatch& micro_batch) {
  MicroBatch same = micro_batch;
  const Reader reader = ReaderOf(worker);
  Uploads(reader, batch, [&](const HostTensor& x, Layout, Tensor* to) {
    CHECK(to->defined() && to->elements() == x.shape().elements());
    worker.device.Upload(x.data(), *to);
  }).All(&same);
}

}  // namespace trefoil
