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
#include "model/token_shares.h"
#include "runtime/ops.h"
#include "training/tasks/tasks.h"

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

// The row of each of a batch's places [B, U], -1 where another rank has it, and of each row the number of its place, -1
// where none is. Rows are those of `tokens` of each sample.
struct Rows {
  std::vector<int32_t> rows, numbers;
};
Rows RowsOf(const HostTensor& places, const TokenRanges& tokens) {
  const int64_t samples = places.shape()[0], of_sample = places.shape()[1], here = tokens.tokens();
  Rows rows;
  rows.numbers.assign(static_cast<size_t>(samples * here), -1);
  for (int64_t i = 0; i < samples * of_sample; ++i) {
    const int64_t place = places.values<int32_t>()[static_cast<size_t>(i)], token = tokens.Before(place);
    if (token == here || tokens.Position(token) != place) {
      rows.rows.push_back(-1);
      continue;
    }
    const int64_t row = i / of_sample * here + token;
    rows.rows.push_back(static_cast<int32_t>(row));
    rows.numbers.at(static_cast<size_t>(row)) = static_cast<int32_t>(i);
  }
  return rows;
}

// Of [B, length] those of some tokens [B, T].
template <typename T>
HostTensor OfTokens(const std::vector<T>& values, int64_t samples, int64_t length, const TokenRanges& tokens) {
  std::vector<T> some;
  for (int64_t b = 0; b < samples; ++b) {
    tokens.ForEachRun(0, tokens.tokens(), [&](int64_t, int64_t n, int64_t position) {
      const auto first = values.begin() + b * length + position;
      some.insert(some.end(), first, first + n);
    });
  }
  return HostTensor(std::move(some), {samples, tokens.tokens()});
}

// Of a sample of `length` tokens, those that a rank has of the ranks that share them; and this one.
TokenRanges TokensOf(const Reader& reader, int64_t length, int rank) {
  const bool causal = RecipeOf(reader.config.model()).structure == Recipe::Structure::kDecoder;
  return ShareOfTokens(length, reader.token_ranks->size(), rank, causal);
}
TokenRanges TokensHere(const Reader& reader, int64_t length) {
  return reader.token_ranks == nullptr ? TokenRanges(length) : TokensOf(reader, length, reader.token_ranks->rank());
}

// Visits each tensor that this rank uploads, with its place in the micro-batch.
class Uploads {
 public:
  using Visit = std::function<void(const HostTensor& x, Layout layout, Tensor* to)>;
  Uploads(const Reader& reader, const Batch& batch, Visit visit)
      : reader_(reader),
        model_(reader.config.model()),
        recipe_(RecipeOf(model_)),
        tokens_(TokensHere(reader, batch.length)),
        batch_(batch),
        visit_(std::move(visit)) {}

  void All(MicroBatch* to) const {
    const Role& role = reader_.role;
    if (role.reads_inputs) Inputs(to);
    if (role.reads_decoder) Decoder(to);
    if (role.reads_lengths) Lengths(to);
    if (role.reads_targets) Targets(to);
  }

 private:
  void Inputs(MicroBatch* to) const {
    GiveOfTokens(batch_.inputs, &to->input.ids);
    if (batch_.document_starts.defined()) GiveOfTokens(InDocuments(), &to->input.positions);
    if (recipe_.segments) {
      const bool given = batch_.segments.defined();
      GiveOfTokens(given ? batch_.segments : HostTensor::Zeros(DType::kInt32, batch_.inputs.shape()), &to->segments);
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
    Rows rows = RowsOf(batch_.patch_places, TokenRanges(model_.decoder_length()));
    std::vector<int32_t> masked;
    for (const int32_t visible : rows.numbers) masked.push_back(visible < 0 ? 0 : -1);
    Give(Ids(std::move(rows.rows)), &to->rows_of_visible);
    Give(Ids(std::move(rows.numbers)), &to->visible_rows);
    Give(Ids(std::move(masked)), &to->masked);
  }

  // [B, length]: which token of its document each is.
  HostTensor InDocuments() const {
    std::vector<int32_t> positions = batch_.document_starts.values<int32_t>();
    for (size_t i = 0; i < positions.size(); ++i) {
      positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % batch_.length) - positions[i];
    }
    return HostTensor(std::move(positions), batch_.document_starts.shape());
  }

  void Lengths(MicroBatch* to) const {
    Give(batch_.lengths, &to->input.lengths);
    const bool exchanges = reader_.config.parallel().context_method() == ParallelConfig::ALL_TO_ALL;
    exchanges ? Give(batch_.document_starts, &to->input.starts)
              : GiveOfTokens(batch_.document_starts, &to->input.starts);
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
    Give(batch_.values, &to->values, Layout::kColumns);
    if (!batch_.places.defined()) {
      // A target of each token.
      GiveOfTokens(batch_.targets, &to->targets);
      return GiveOfTokens(batch_.weights, &to->weights);
    }
    Give(batch_.targets, &to->targets);
    Rows rows = RowsOf(batch_.places,
                       model_.head() == ModelConfig::PATCHES ? TokenRanges(model_.decoder_length()) : tokens_);
    Give(tokens_.tokens() < batch_.length ? WeightsHere(rows) : batch_.weights, &to->weights);
    Give(Ids(std::move(rows.rows)), &to->target_rows);
    Give(Ids(std::move(rows.numbers)), &to->row_targets);
  }

  // 0 for targets of other ranks' tokens.
  HostTensor WeightsHere(const Rows& rows) const {
    const auto count = rows.rows.size();
    std::vector<float> weights(count, 1);
    if (batch_.weights.defined()) weights = batch_.weights.values<float>();
    for (size_t i = 0; i < count; ++i) {
      if (rows.rows[i] < 0) weights[i] = 0;
    }
    return HostTensor(std::move(weights), {static_cast<int64_t>(count)});
  }

  // Of [B, length], which a sequence shared with other ranks has, what is of this rank's tokens.
  void GiveOfTokens(const HostTensor& x, Tensor* to) const {
    if (!x.defined() || tokens_.tokens() == batch_.length) return Give(x, to);
    Give(x.dtype() == DType::kInt32 ? OfTokens(x.values<int32_t>(), batch_.samples, batch_.length, tokens_)
                                    : OfTokens(x.values<float>(), batch_.samples, batch_.length, tokens_),
         to);
  }

  void Give(const HostTensor& x, Tensor* to, Layout layout = Layout::kRows) const {
    if (x.defined()) visit_(x, layout, to);
  }

  const Reader& reader_;
  const ModelConfig& model_;
  const Recipe recipe_;
  const TokenRanges tokens_;
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

Tensor UploadIds(const Reader& reader, std::vector<int32_t> ids) {
  const HostTensor x = Ids(std::move(ids));
  return Upload(reader, x, x.shape());
}

// Of one micro-batch's rows.
Tensor UploadPositions(const Reader& reader, int64_t samples, const TokenRanges& tokens) {
  std::vector<int32_t> positions(static_cast<size_t>(samples * tokens.tokens()));
  for (size_t i = 0; i < positions.size(); ++i) {
    positions[i] = static_cast<int32_t>(tokens.Position(static_cast<int64_t>(i) % tokens.tokens()));
  }
  return UploadIds(reader, std::move(positions));
}

// Which row of all context ranks' is which of the samples' in order.
void UploadExchange(const Reader& reader, int64_t samples, Sequences* to) {
  const int ranks = reader.token_ranks->size();
  const int64_t here = to->tokens.tokens();
  std::vector<int32_t> gathered(static_cast<size_t>(samples * to->length)), rows(gathered.size());
  for (int rank = 0; rank < ranks; ++rank) {
    const TokenRanges tokens = TokensOf(reader, to->length, rank);
    for (int64_t i = 0; i < samples * here; ++i) {
      const int64_t from = rank * samples * here + i, row = i / here * to->length + tokens.Position(i % here);
      gathered[static_cast<size_t>(row)] = static_cast<int32_t>(from);
      rows[static_cast<size_t>(from)] = static_cast<int32_t>(row);
    }
  }
  to->gathered_rows = UploadIds(reader, std::move(gathered));
  to->rows_of_gathered = UploadIds(reader, std::move(rows));
}

Sequences ConstantsOf(const Reader& reader, int64_t samples, int64_t length, bool embeds, bool both_ways) {
  const Recipe recipe = RecipeOf(reader.config.model());
  Sequences sequences = {.tokens = TokensHere(reader, length), .length = length};
  if (length == 0) return sequences;
  if (embeds) sequences.positions = UploadPositions(reader, samples, sequences.tokens);
  if (embeds && recipe.positions == Recipe::Positions::kSinusoidal) {
    sequences.sinusoids = UploadSinusoids(reader, length);
  }
  if (reader.role.reads_lengths && recipe.positions == Recipe::Positions::kRelative) {
    sequences.buckets = UploadIds(reader, RelativeBuckets(length, both_ways));
  }
  const bool exchanges = reader.config.parallel().context_method() == ParallelConfig::ALL_TO_ALL;
  if (!sequences.is_whole() && exchanges) UploadExchange(reader, samples, &sequences);
  return sequences;
}

}  // namespace

int64_t GlobalTargets(const RunConfig& config) {
  return config.training().global_batch() * int64_t{config.model().targets()};
}

int64_t TargetsOfSample(const Reader& reader) {
  const ModelConfig& model = reader.config.model();
  const bool of_tokens = reader.token_ranks != nullptr && !EntryOf(reader.config.task().kind()).places;
  return of_tokens ? model.targets() / reader.token_ranks->size() : model.targets();
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
                         .targets_of_sample = TargetsOfSample(reader)};
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
