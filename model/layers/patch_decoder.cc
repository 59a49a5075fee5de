#include "model/layers/patch_decoder.h"

#include "model/layers/rows.h"
#include "model/patches.h"

namespace trefoil {
namespace {

constexpr char kNorm[] = "encoder.norm";
constexpr char kMaskToken[] = "decoder.mask_token";
constexpr char kPosition[] = "decoder.position.weight";

WholeLinearShape LinearShapeOf(const ModelConfig& config) {
  return {.prefix = "decoder.embedding",
          .outputs = config.decoder_hidden(),
          .inputs = config.hidden(),
          .deviation = InitialDeviation(config, config.hidden(), config.decoder_hidden()),
          .all_rows = false};
}

}  // namespace

ModelConfig PatchDecoderConfig(const ModelConfig& config) {
  ModelConfig decoder = config;
  decoder.set_layers(config.decoder_layers());
  decoder.set_hidden(config.decoder_hidden());
  decoder.set_heads(config.decoder_heads());
  decoder.set_kv_heads(config.decoder_heads());
  decoder.set_head_dim(config.decoder_hidden() / std::max(1, config.decoder_heads()));
  decoder.set_feed_forward(4 * config.decoder_hidden());
  return decoder;
}

void PatchDecoder::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  Norm::Declare(config, kNorm, module, table);
  WholeLinear::Declare(LinearShapeOf(config), module, table);
  const auto add = [&](const char* name, int64_t rows) {
    table->Add({.name = name,
                .module = module,
                .shape = {rows, config.decoder_hidden()},
                .partial_over = Axis::kTensor,
                .initial = Initial::kNormal,
                .deviation = config.initial_deviation()});
  };
  add(kMaskToken, 1);
  add(kPosition, ImagePlaces(config));
}

double PatchDecoder::Flops(const ModelConfig& config) {
  return 6.0 * config.hidden() * config.decoder_hidden() * config.sequence_length();
}

PatchDecoder::PatchDecoder(const ParameterStore& store, const ModelConfig& config, int module)
    : module_(module),
      norm_(store, config, kNorm),
      linear_(store, LinearShapeOf(config)),
      mask_token_(store.View({kMaskToken})),
      positions_(store.View({kPosition})) {}

Tensors PatchDecoder::Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                              ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  saved->h = norm_.Forward(context, x.front(), &saved->norm);
  const Tensor visible = context.GatherTokens(linear_.Forward(context, saved->h));
  const Tensor y = ChooseRows(context, visible, context.LocalTokens(batch.visible_rows));
  Embedding(context.device, context.LocalTokens(batch.masked), mask_token_.weight(), 0, y, Accumulate::kYes);
  Embedding(context.device, context.LocalTokens(batch.decoder.positions), positions_.weight(), 0, y,
            Accumulate::kYes);
  context.Inspect(Pass::kForward, module_, "decoder", ".embedding", y);
  if (batch.training) pass->saved = std::move(saved);
  return {y};
}

Tensors PatchDecoder::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                               std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  const Saved& saved = static_cast<const Saved&>(*kept);
  const Tensor& dy = d_output.front();
  weights.Add([this, &device = context.device, masked = context.LocalTokens(batch.masked),
               places = context.LocalTokens(batch.decoder.positions), dy] {
    EmbeddingBackward(device, masked, dy, 0, mask_token_.gradient());
    EmbeddingBackward(device, places, dy, 0, positions_.gradient());
  });
  // This rank has the gradients of its own tokens: of others' places zeros, until they are added up.
  const int64_t first = context.FirstLocalRow(batch.rows(Side::kDecoder));
  Tensor d_visible = ChooseRows(context, dy, batch.rows_of_visible, first);
  if (context.splits_tokens()) d_visible = context.ReduceTokens(d_visible);
  const Tensor dh = linear_.Backward(context, d_visible, saved.h, weights);
  const Tensor dx = norm_.Backward(context, dh, saved.norm, Tensor());
  context.Inspect(Pass::kBackward, module_, "decoder", ".embedding", dx);
  return {dx};
}

}  // namespace trefoil
