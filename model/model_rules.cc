#include "model/model_rules.h"

#include <absl/strings/str_join.h>

#include <numeric>
#include <utility>

#include "model/families/recipe.h"
#include "model/token_shares.h"
#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

// A field that only some networks have.
void CheckUnused(const std::string& path, double value, bool used, const ModelConfig& model, Rules& rules) {
  if (!rules.Good(path) || used || value == 0) return;
  rules.Broken(path, ": ", value, ", must be 0 for ", ModelConfig::Family_Name(model.family()),
               model.family() == ModelConfig::VIT ? absl::StrCat(" with head ", ModelConfig::Head_Name(model.head())) : "",
               ", which has no use for it; nearest legal: 0");
}

void CheckImages(const ModelConfig& model, Rules& rules) {
  for (const auto& [path, value] : {std::pair("model.image_size", model.image_size()),
                                    std::pair("model.patch_size", model.patch_size()),
                                    std::pair("model.channels", model.channels())}) {
    rules.AtLeastOne(path, value);
  }
  if (rules.Good("model.image_size", "model.patch_size") && model.image_size() % model.patch_size() != 0) {
    rules.Bad("model.image_size",
              absl::StrCat(model.image_size(), " is not a multiple of model.patch_size ", model.patch_size(),
                           "; nearest legal: ", NearestMultiples(model.patch_size(), model.image_size())));
  }
}

void CheckByStructure(const ModelConfig& model, const Recipe& recipe, Rules& rules) {
  const bool vision = recipe.structure == Recipe::Structure::kVision;
  const bool pair = recipe.structure == Recipe::Structure::kEncoderDecoder;
  const bool recurrent = recipe.structure == Recipe::Structure::kRecurrent;
  const bool patches = vision && model.head() == ModelConfig::PATCHES;
  if (vision) CheckImages(model, rules);
  if (model.head() == ModelConfig::CLASSES) {
    if (rules.Good("model.classes") && model.classes() < 2) {
      rules.Bad("model.classes", absl::StrCat(model.classes(), ", must be at least 2 with head CLASSES, and no data say it; ",
                                              "nearest legal: 2"));
    }
  } else {
    CheckUnused("model.classes", model.classes(), false, model, rules);
  }
  if (pair || patches) {
    rules.AtLeastOne("model.decoder_layers", model.decoder_layers());
    rules.AtLeastOne("model.decoder_length", model.decoder_length());
  }
  if (patches) {
    rules.AtLeastOne("model.decoder_hidden", model.decoder_hidden());
    rules.AtLeastOne("model.decoder_heads", model.decoder_heads());
    if (rules.Good("model.decoder_hidden", "model.decoder_heads") &&
        model.decoder_hidden() % model.decoder_heads() != 0) {
      rules.Broken("model.decoder_hidden: ", model.decoder_hidden(), " is not a multiple of model.decoder_heads ",
                   model.decoder_heads(), "; nearest legal: ",
                   NearestMultiples(model.decoder_heads(), model.decoder_hidden()));
    }
  }
  CheckUnused("model.decoder_layers", model.decoder_layers(), pair || patches, model, rules);
  CheckUnused("model.decoder_length", model.decoder_length(), pair || patches, model, rules);
  CheckUnused("model.decoder_hidden", model.decoder_hidden(), patches, model, rules);
  CheckUnused("model.decoder_heads", model.decoder_heads(), patches, model, rules);
  CheckUnused("model.image_size", model.image_size(), vision, model, rules);
  CheckUnused("model.patch_size", model.patch_size(), vision, model, rules);
  CheckUnused("model.channels", model.channels(), vision, model, rules);
  CheckUnused("model.stochastic_depth", model.stochastic_depth(), vision, model, rules);
  rules.Share("model.stochastic_depth", model.stochastic_depth(), false);
  const bool decoder = recipe.structure == Recipe::Structure::kDecoder;
  CheckUnused("model.sliding_window", model.sliding_window(), decoder, model, rules);
  if (rules.Good("model.sliding_window", "model.first_window_layer", "model.layers") && model.first_window_layer() > 0) {
    if (model.sliding_window() == 0) {
      rules.Broken("model.first_window_layer: ", model.first_window_layer(),
                   ", must be 0 without model.sliding_window; nearest legal: 0");
    } else if (model.first_window_layer() >= model.layers()) {
      rules.Broken("model.first_window_layer: ", model.first_window_layer(), ", must be below model.layers ",
                   model.layers(), "; nearest legal: ", model.layers() - 1);
    }
  }
  CheckUnused("model.qk_norm", model.qk_norm(), !pair && !recurrent, model, rules);
  CheckUnused("model.attention_output_bias", model.attention_output_bias(), !recurrent, model, rules);
  CheckUnused("model.mlp_bias", model.mlp_bias(), !recurrent, model, rules);
  CheckUnused("model.gated", model.gated(), !recurrent, model, rules);
  if (recurrent && rules.Good("model.activation") && model.activation() != ModelConfig::ACTIVATION_UNSET) {
    rules.Broken("model.activation: ", ModelConfig::Activation_Name(model.activation()), ", must be left out for ",
                 ModelConfig::Family_Name(model.family()),
                 ", which has no use for it; nearest legal: ACTIVATION_UNSET");
  }
  CheckUnused("model.bidirectional", model.bidirectional(), recurrent, model, rules);
  if (model.bidirectional() && rules.Good("model.hidden") && model.hidden() % 2 != 0) {
    rules.Broken("model.hidden: ", model.hidden(), ", must be even with model.bidirectional, half for each direction; ",
                 "nearest legal: ", NearestMultiples(2, model.hidden()));
  }
}

// A positive number, or 0 where another kind of scaling has no use for it.
void CheckScalingNumber(const char* name, double value, bool used, const char* usual, const RopeScaling& scaling,
                        Rules& rules) {
  const std::string path = absl::StrCat("model.rope_scaling.", name);
  if (used) return rules.Positive(path, value, usual);
  if (!rules.Good(path) || value == 0) return;
  rules.Broken(path, ": ", value, ", must be 0 ",
               scaling.kind() == RopeScaling::KIND_UNSET
                   ? "without model.rope_scaling.kind"
                   : absl::StrCat("with model.rope_scaling.kind ", RopeScaling::Kind_Name(scaling.kind())),
               ", which has no use for it; nearest legal: 0");
}

void CheckRopeScaling(const ModelConfig& model, bool rotary, Rules& rules) {
  const RopeScaling& scaling = model.rope_scaling();
  const bool scaled = scaling.kind() != RopeScaling::KIND_UNSET;
  if (scaled && !rotary) {
    rules.Bad("model.rope_scaling.kind",
              absl::StrCat(RopeScaling::Kind_Name(scaling.kind()), ", must be left out for ",
                           ModelConfig::Family_Name(model.family()),
                           ", which has no rotary positions; nearest legal: KIND_UNSET"));
    return;
  }
  const bool llama3 = scaling.kind() == RopeScaling::LLAMA3, yarn = scaling.kind() == RopeScaling::YARN;
  CheckScalingNumber("factor", scaling.factor(), scaled, "8", scaling, rules);
  if (scaled && rules.Good("model.rope_scaling.factor") && scaling.factor() < 1) {
    rules.Bad("model.rope_scaling.factor", absl::StrCat(scaling.factor(), ", must be at least 1; nearest legal: 1"));
  }
  CheckScalingNumber("low_frequency_factor", scaling.low_frequency_factor(), llama3, "1", scaling, rules);
  CheckScalingNumber("high_frequency_factor", scaling.high_frequency_factor(), llama3, "4", scaling, rules);
  CheckScalingNumber("original_length", scaling.original_length(), llama3 || yarn, "8192", scaling, rules);
  CheckScalingNumber("beta_fast", scaling.beta_fast(), yarn, "32", scaling, rules);
  CheckScalingNumber("beta_slow", scaling.beta_slow(), yarn, "1", scaling, rules);
  CheckScalingNumber("attention_factor", scaling.attention_factor(), yarn, "0.1 ln(factor) + 1", scaling, rules);
  const auto check_order = [&rules](const std::string& low_name, float low, const std::string& high_name, float high) {
    const std::string low_path = "model.rope_scaling." + low_name, high_path = "model.rope_scaling." + high_name;
    if (!rules.Good(low_path, high_path) || low < high) return;
    rules.Broken(low_path, ": ", low, ", must be below ", high_path, " ", high, "; nearest legal: ", high / 4);
  };
  if (llama3) {
    check_order("low_frequency_factor", scaling.low_frequency_factor(), "high_frequency_factor",
                scaling.high_frequency_factor());
  }
  if (yarn) check_order("beta_slow", scaling.beta_slow(), "beta_fast", scaling.beta_fast());
}

void CheckLora(const ModelConfig& model, const Recipe& recipe, Rules& rules) {
  const LoraConfig& lora = model.lora();
  CheckUnused("model.lora.rank", lora.rank(), recipe.structure != Recipe::Structure::kRecurrent, model, rules);
  if (lora.rank() == 0 || !rules.Good("model.lora.rank")) return;
  rules.Positive("model.lora.alpha", lora.alpha(), "16");
  for (const auto& [path, size] :
       {std::pair("model.hidden", model.hidden()), std::pair("model.feed_forward", model.feed_forward())}) {
    if (!rules.Good(path) || lora.rank() <= size) continue;
    rules.Broken("model.lora.rank: ", lora.rank(), ", must be at most ", path, " ", size, "; nearest legal: ", size);
  }
  for (const int target : lora.on()) {
    if (target == LoraConfig::GATE && !recipe.gated) {
      rules.Broken("model.lora.on: GATE, which the MLP of ", ModelConfig::Family_Name(model.family()),
                   " does not have; nearest legal: UP");
    } else if (target == LoraConfig::TARGET_UNSET) {
      rules.Broken("model.lora.on: TARGET_UNSET; legal: ", EnumNames(*LoraConfig::Target_descriptor()));
    }
  }
}

void CheckByItself(const ModelConfig& model, Rules& rules) {
  if (model.family() == ModelConfig::FAMILY_UNSET) {
    rules.Bad("model.family", absl::StrCat("not set; legal: ", EnumNames(*ModelConfig::Family_descriptor())));
  }
  rules.AtLeastOne("model.layers", model.layers());
  rules.AtLeastOne("model.hidden", model.hidden());
  rules.AtLeastOne("model.heads", model.heads());
  rules.AtLeastOne("model.sequence_length", model.sequence_length());
  // Their defaults come from heads and hidden.
  rules.Good("model.heads") ? rules.AtLeastOne("model.kv_heads", model.kv_heads()) : rules.Skip("model.kv_heads");
  rules.Good("model.hidden") ? rules.AtLeastOne("model.feed_forward", model.feed_forward())
                             : rules.Skip("model.feed_forward");
  const bool known = rules.Good("model.family");
  const std::string family = ModelConfig::Family_Name(model.family());
  const Recipe recipe = known ? RecipeOf(model) : Recipe();
  const bool rotary = recipe.positions == Recipe::Positions::kRotary;

  if (rules.Good("model.hidden", "model.heads", "model.head_dim") && model.head_dim() == 0) {
    rules.Bad("model.head_dim", absl::StrCat("not set, and model.hidden ", model.hidden(),
                                             " is not a multiple of model.heads ", model.heads(), "; nearest hidden: ",
                                             NearestMultiples(model.heads(), model.hidden()), ", or set head_dim"));
  }
  if (rules.Good("model.heads", "model.head_dim") && rotary && model.head_dim() % 2 != 0) {
    rules.Broken("model.head_dim: ", model.head_dim(), ", must be even for ", family,
                 ", whose rotary positions turn pairs; nearest legal: ", NearestMultiples(2, model.head_dim()));
  }
  if (rules.Good("model.heads", "model.kv_heads") && model.heads() % model.kv_heads() != 0) {
    rules.Broken("model.kv_heads: ", model.kv_heads(), " does not divide model.heads ", model.heads(),
                 "; nearest legal: ", NearestDivisors(model.heads(), model.kv_heads()));
  }
  const bool vision = recipe.structure == Recipe::Structure::kVision;
  if (rules.Good("model.vocabulary") && model.vocabulary() == 0 && !vision) {
    rules.Bad("model.vocabulary",
              "not set, and no tokenizer says it (data.tokenizer, or a tokenizer beside the first of "
              "data.train); must be above every token id, such as 50257 for GPT-2's");
  }
  rules.Positive("model.norm_epsilon", model.norm_epsilon(), "1e-5");
  if (!recipe.own_deviations) rules.Positive("model.initial_deviation", model.initial_deviation(), "0.02");
  if (rotary) rules.Positive("model.rope_theta", model.rope_theta(), "10000");
  rules.Share("model.dropout", model.dropout(), false);
  if (rules.Good("model.dropout") && !recipe.dropout && model.dropout() > 0) {
    rules.Broken("model.dropout: ", model.dropout(), ", must be 0 for ", family,
                 ", whose recipe has none; nearest legal: 0");
  }
  if (known && rules.Good("model.rope_theta") && !rotary && model.rope_theta() != 0) {
    rules.Broken("model.rope_theta: ", model.rope_theta(), ", must be 0 for ", family,
                 ", which has no rotary positions; nearest legal: 0");
  }
  if (known) CheckRopeScaling(model, rotary, rules);
  if (known) CheckByStructure(model, recipe, rules);
  if (known) CheckLora(model, recipe, rules);
}

// Sizes that an axis splits evenly, but for those that are wrong by themselves.
void CheckDivided(const ModelConfig& model, const ParallelConfig& parallel, const AxisEntry& axis, Rules& rules) {
  const std::string axis_path = std::string("parallel.") + axis.name;
  if (!rules.Good(axis_path)) return;
  const int64_t size = (parallel.*axis.size)();
  int64_t common = 0;
  std::vector<DividedSize> divided;
  std::vector<std::string> names;
  for (DividedSize& one : DividedSizes(model)) {
    if (one.axis != axis.axis || !rules.Good(one.path) || one.size <= 0) continue;
    common = std::gcd(common, one.size);
    names.push_back(one.path.substr(one.path.find('.') + 1));
    divided.push_back(std::move(one));
  }
  for (const DividedSize& one : divided) {
    if (one.size % size == 0) continue;
    rules.Broken(one.path, ": ", one.size, " is not a multiple of ", axis_path, " ", size, "; nearest ", axis.name,
                 " sizes that divide ", absl::StrJoin(names, " and "), ": ", NearestDivisors(common, size));
  }
}

// Networks of one sequence whose every token is treated alike.
bool HasTokensToShare(const ModelConfig& model) {
  const Recipe::Structure structure = RecipeOf(model).structure;
  const bool one_sequence = structure == Recipe::Structure::kDecoder || structure == Recipe::Structure::kEncoder;
  return one_sequence && (model.head() == ModelConfig::TOKENS || model.head() == ModelConfig::HEAD_UNSET);
}

int64_t ChunksOf(const ModelConfig& model, const ParallelConfig& parallel) {
  return ChunksOfTokens(parallel.context(), RecipeOf(model).structure == Recipe::Structure::kDecoder);
}

void CheckHeadsOfContext(const ModelConfig& model, const ParallelConfig& parallel, Rules& rules) {
  const int tensor = parallel.tensor(), context = parallel.context();
  if (!rules.Good("model.heads", "model.kv_heads", "parallel.tensor")) return;
  if (model.heads() % tensor != 0 || model.kv_heads() % tensor != 0) return;
  const int64_t common = std::gcd(model.heads(), model.kv_heads()) / tensor;
  if (common % context == 0) return;
  rules.Broken("parallel.context: ", context, ", must divide the heads and key/value heads of a rank, ",
               model.heads() / tensor, " and ", model.kv_heads() / tensor,
               ", with context_method ALL_TO_ALL; nearest legal: ", NearestDivisors(common, context),
               " (or context_method: RING)");
}

void CheckContext(const ModelConfig& model, const ParallelConfig& parallel, Rules& rules) {
  if (!rules.Good("parallel.context", "model.family") || parallel.context() == 1) return;
  const int context = parallel.context();
  if (!HasTokensToShare(model)) {
    const bool head = model.head() != ModelConfig::TOKENS && model.head() != ModelConfig::HEAD_UNSET;
    rules.Broken("parallel.context: ", context, ", must be 1 for ", ModelConfig::Family_Name(model.family()),
                 head ? absl::StrCat(" with head ", ModelConfig::Head_Name(model.head())) : "",
                 ", whose samples' tokens ranks cannot share; nearest legal: 1");
    return;
  }
  const int64_t chunks = ChunksOf(model, parallel);
  if (rules.Good("model.sequence_length") && model.sequence_length() % chunks != 0) {
    rules.Broken("model.sequence_length: ", model.sequence_length(), " is not a multiple of ",
                 chunks > context ? "2 x " : "", "parallel.context ", context,
                 ", the chunks that its ranks share; nearest legal: ",
                 NearestMultiples(chunks, model.sequence_length()));
  }
  if (parallel.context_method() == ParallelConfig::ALL_TO_ALL) CheckHeadsOfContext(model, parallel, rules);
}

}  // namespace

bool CanShareTokens(const ModelConfig& model, const ParallelConfig& parallel) {
  if (parallel.context() <= 1) return true;
  return HasTokensToShare(model) && model.sequence_length() % ChunksOf(model, parallel) == 0;
}

std::vector<DividedSize> DividedSizes(const ModelConfig& model) {
  if (model.family() == ModelConfig::RNN || model.family() == ModelConfig::LSTM) {
    return {{Axis::kTensor, "model.hidden", model.bidirectional() ? model.hidden() / 2 : model.hidden()}};
  }
  std::vector<DividedSize> sizes = {{Axis::kTensor, "model.heads", model.heads()},
                                    {Axis::kTensor, "model.kv_heads", model.kv_heads()},
                                    {Axis::kTensor, "model.feed_forward", model.feed_forward()}};
  if (model.decoder_heads() > 0) {
    sizes.push_back({Axis::kTensor, "model.decoder_heads", model.decoder_heads()});
    sizes.push_back({Axis::kTensor, "model.decoder_hidden", model.decoder_hidden()});
  }
  return sizes;
}

int64_t BlocksOf(const ModelConfig& model) { return int64_t{model.layers()} + model.decoder_layers(); }

int64_t LeastLayers(const ParallelConfig& parallel) { return Product(parallel.pipeline(), parallel.chunks()); }

void CheckModel(const ModelConfig& model, const ParallelConfig& parallel, Rules& rules) {
  CheckByItself(model, rules);
  for (const AxisEntry& axis : Axes()) CheckDivided(model, parallel, axis, rules);
  CheckContext(model, parallel, rules);
  if (rules.Good("model.vocabulary", "parallel.tensor") && model.vocabulary() > 0 &&
      model.vocabulary() < parallel.tensor()) {
    rules.Broken("model.vocabulary: ", model.vocabulary(), ", must be at least parallel.tensor ", parallel.tensor(),
                 ", which splits it; nearest legal: ", parallel.tensor());
  }
  if (rules.Good("model.layers", "model.decoder_layers", "parallel.pipeline", "parallel.chunks") &&
      BlocksOf(model) < LeastLayers(parallel)) {
    rules.Broken("model.layers: ", model.layers(),
                 model.decoder_layers() > 0 ? absl::StrCat(" and ", model.decoder_layers(), " of the decoder") : "", ", must be at least parallel.pipeline ", parallel.pipeline(),
                 " x parallel.chunks ", parallel.chunks(), " = ", LeastLayers(parallel), "; nearest legal: ",
                 LeastLayers(parallel));
  }
}

}  // namespace trefoil
