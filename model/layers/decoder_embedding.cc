#include "model/layers/decoder_embedding.h"

namespace trefoil {
namespace {

constexpr char kNorm[] = "encoder.norm";

}  // namespace

void DecoderEmbedding::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  if (NormBeforeHead(config)) Norm::Declare(config, kNorm, module, table);
}

DecoderEmbedding::DecoderEmbedding(const ParameterStore& store, const ModelConfig& config, int module)
    : norm_(NormBeforeHead(config) ? std::optional<Norm>(std::in_place, store, config, kNorm) : std::nullopt),
      tokens_(store, config, module, Side::kDecoder) {}

Tensors DecoderEmbedding::Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                                  ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  const Tensor memory = norm_.has_value() ? norm_->Forward(context, x.front(), &saved->norm) : x.front();
  ForwardPass of_tokens;
  const Tensors y = tokens_.Forward(context, batch, {}, &of_tokens);
  saved->tokens = std::move(of_tokens.saved);
  if (batch.training) pass->saved = std::move(saved);
  return {y.front(), memory};
}

Tensors DecoderEmbedding::Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  Saved& saved = static_cast<Saved&>(*kept);
  tokens_.Backward(context, batch, {dy.at(0)}, std::move(saved.tokens), weights);
  const Tensor& d_memory = dy.at(1);
  return {norm_.has_value() ? norm_->Backward(context, d_memory, saved.norm, Tensor()) : d_memory};
}

}  // namespace trefoil
