#include "model/model_text.h"

#include <absl/strings/str_cat.h>

#include "model/families/recipe.h"
#include "model/model.h"
#include "model/patches.h"

namespace trefoil {
namespace {

using Structure = Recipe::Structure;

std::string Plural(int64_t count, const char* noun) { return absl::StrCat(count, " ", noun, count == 1 ? "" : "s"); }

bool Reconstructs(const ModelConfig& config) { return config.head() == ModelConfig::PATCHES; }

std::string Layers(const ModelConfig& config, Structure structure) {
  if (structure == Structure::kEncoderDecoder) {
    return absl::StrCat(config.layers(), " + ", config.decoder_layers(), " layers");
  }
  return absl::StrCat(Plural(config.layers(), "layer"), config.bidirectional() ? " of both directions" : "");
}

// "6 heads (2 key/value)"; with their width where it does not follow from hidden.
std::string Heads(const ModelConfig& config) {
  std::string text = Plural(config.heads(), "head");
  if (config.heads() * config.head_dim() != config.hidden()) absl::StrAppend(&text, " of ", config.head_dim());
  if (config.kv_heads() != config.heads()) absl::StrAppend(&text, " (", config.kv_heads(), " key/value)");
  return text;
}

std::string Images(const ModelConfig& config) {
  return absl::StrCat(config.image_size(), "x", config.image_size(), "x", config.channels(), " pixels in patches of ",
                      config.patch_size());
}

}  // namespace

std::string ModelInWords(const ModelConfig& config) {
  const Structure structure = RecipeOf(config).structure;
  std::string text = absl::StrCat(ModelConfig::Family_Name(config.family()), ": ", Layers(config, structure), ", hidden ",
                                  config.hidden());
  if (structure != Structure::kRecurrent) {
    absl::StrAppend(&text, ", ", Heads(config), ", feed-forward ", config.feed_forward());
  }
  if (structure == Structure::kVision && Reconstructs(config)) {
    absl::StrAppend(&text, ", decoder of ", Plural(config.decoder_layers(), "layer"), ", hidden ",
                    config.decoder_hidden(), ", ", Plural(config.decoder_heads(), "head"));
  }
  absl::StrAppend(&text, ", ", structure == Structure::kVision ? Images(config)
                                                               : absl::StrCat("vocabulary ", config.vocabulary()));
  if (config.head() == ModelConfig::CLASSES) absl::StrAppend(&text, ", ", config.classes(), " classes");
  if (config.head() == ModelConfig::VALUE) absl::StrAppend(&text, ", a number for each text");
  return text;
}

std::string SampleSize::Of(int64_t samples) const {
  return images ? absl::StrCat(samples, " images of ", text) : absl::StrCat(samples, " x ", text, " ", unit);
}

SampleSize SampleSizeOf(const ModelConfig& config) {
  const Structure structure = RecipeOf(config).structure;
  if (structure == Structure::kVision) {
    std::string text = absl::StrCat(ImagePatches(config), " patches");
    // Places are the patches and the class token.
    if (Reconstructs(config)) absl::StrAppend(&text, " (", config.sequence_length() - 1, " seen)");
    return {.text = text, .unit = "images", .units = 1, .images = true};
  }
  return {.text = structure == Structure::kEncoderDecoder
                      ? absl::StrCat("(", config.sequence_length(), " + ", config.decoder_length(), ")")
                      : absl::StrCat(config.sequence_length()),
          .unit = "tokens",
          .units = TokensOfSample(config)};
}

}  // namespace trefoil
