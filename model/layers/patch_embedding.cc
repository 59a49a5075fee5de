#include "model/layers/patch_embedding.h"

#include "model/families/recipe.h"
#include "model/patches.h"

namespace trefoil {
namespace {

constexpr char kPosition[] = "embedding.position.weight";

// The bias is added by the table of kinds: the class token, a patch of zeros, has its own.
WholeLinearShape PatchShape(const ModelConfig& config) {
  return {.prefix = "embedding.patch",
          .outputs = config.hidden(),
          .inputs = PatchValues(config),
          .bias = false,
          .deviation = InitialDeviation(config, PatchValues(config), config.hidden()),
          .all_rows = false};
}

std::vector<std::string> KindNames() { return {"embedding.patch.bias", "embedding.class_token"}; }

}  // namespace

void PatchEmbedding::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  WholeLinear::Declare(PatchShape(config), module, table);
  for (const std::string& name : KindNames()) {
    const bool bias = name == KindNames().front();
    table->Add({.name = name,
                .module = module,
                .shape = {1, config.hidden()},
                .partial_over = Axis::kTensor,
                .initial = bias ? Initial::kZeros : Initial::kNormal,
                .deviation = bias ? 0 : config.initial_deviation(),
                .fused_with_previous = !bias});
  }
  table->Add({.name = kPosition,
              .module = module,
              .shape = {ImagePlaces(config), config.hidden()},
              .partial_over = Axis::kTensor,
              .initial = Initial::kNormal,
              .deviation = config.initial_deviation()});
}

double PatchEmbedding::Flops(const ModelConfig& config) {
  return 4.0 * static_cast<double>(PatchValues(config)) * config.hidden() * config.sequence_length();
}

PatchEmbedding::PatchEmbedding(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config),
      module_(module),
      linear_(store, PatchShape(config)),
      kinds_(store.View(KindNames())),
      positions_(store.View({kPosition})) {}

Tensors PatchEmbedding::Forward(const Context& context, const MicroBatch& batch, const Tensors&,
                                ForwardPass* pass) const {
  Device& device = context.device;
  auto saved = std::make_unique<Saved>();
  const Tensor pixels = context.LocalTokens(batch.patches);
  saved->patches = pixels;
  if (context.dtype != DType::kFloat32) {
    saved->patches = context.New(pixels.shape());
    Cast(device, pixels, saved->patches);
  }
  const Tensor x = linear_.Forward(context, saved->patches);
  Embedding(device, context.LocalTokens(batch.patch_kinds), kinds_.weight(), 0, x, Accumulate::kYes);
  Embedding(device, context.LocalTokens(batch.patch_places), positions_.weight(), 0, x, Accumulate::kYes);
  const DropoutMask mask = MaskOf(context, batch, config_.dropout(), "embedding", x.dim(1));
  if (mask.probability > 0) Dropout(device, x, mask, x);
  context.Inspect(Pass::kForward, module_, "embedding", "", x);
  if (batch.training) pass->saved = std::move(saved);
  return {x};
}

Tensors PatchEmbedding::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                                 std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  const Saved& saved = static_cast<const Saved&>(*kept);
  const Tensor& dx = d_output.front();
  const DropoutMask mask = MaskOf(context, batch, config_.dropout(), "embedding", dx.dim(1));
  if (mask.probability > 0) Dropout(context.device, dx, mask, dx);
  linear_.AddGradients(context, dx, saved.patches, weights);
  weights.Add([this, &device = context.device, kinds = context.LocalTokens(batch.patch_kinds),
               places = context.LocalTokens(batch.patch_places), dx] {
    EmbeddingBackward(device, kinds, dx, 0, kinds_.gradient());
    EmbeddingBackward(device, places, dx, 0, positions_.gradient());
  });
  return {};
}

}  // namespace trefoil
