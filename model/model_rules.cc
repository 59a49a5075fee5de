#include "model/model_rules.h"

#include <absl/strings/str_join.h>

#include <numeric>

#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

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
  const bool llama = model.family() == ModelConfig::LLAMA;

  if (rules.Good("model.hidden", "model.heads", "model.head_dim") && model.head_dim() == 0) {
    rules.Bad("model.head_dim", absl::StrCat("not set, and model.hidden ", model.hidden(),
                                             " is not a multiple of model.heads ", model.heads(), "; nearest hidden: ",
                                             NearestMultiples(model.heads(), model.hidden()), ", or set head_dim"));
  }
  if (rules.Good("model.family", "model.heads", "model.head_dim") && llama && model.head_dim() % 2 != 0) {
    rules.Broken("model.head_dim: ", model.head_dim(), ", must be even for LLAMA, whose rotary positions turn pairs; ",
                 "nearest legal: ", NearestMultiples(2, model.head_dim()));
  }
  if (rules.Good("model.heads", "model.kv_heads") && model.heads() % model.kv_heads() != 0) {
    rules.Broken("model.kv_heads: ", model.kv_heads(), " does not divide model.heads ", model.heads(),
                 "; nearest legal: ", NearestDivisors(model.heads(), model.kv_heads()));
  }
  if (rules.Good("model.vocabulary") && model.vocabulary() == 0) {
    rules.Bad("model.vocabulary",
              "not set, and no tokenizer says it (data.tokenizer, or tokenizer.model beside the first of "
              "data.train); must be above every token id, such as 50257 for GPT-2's");
  }
  rules.Positive("model.norm_epsilon", model.norm_epsilon(), "1e-5");
  rules.Positive("model.initial_deviation", model.initial_deviation(), "0.02");
  if (llama) rules.Positive("model.rope_theta", model.rope_theta(), "10000");
  rules.Share("model.dropout", model.dropout(), false);
  if (rules.Good("model.dropout", "model.family") && llama && model.dropout() > 0) {
    rules.Broken("model.dropout: ", model.dropout(), ", must be 0 for LLAMA, whose recipe has none; nearest legal: 0");
  }
  if (rules.Good("model.rope_theta", "model.family") && !llama && model.rope_theta() != 0) {
    rules.Broken("model.rope_theta: ", model.rope_theta(), ", must be 0 for GPT, which has no rotary positions; ",
                 "nearest legal: 0");
  }
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

}  // namespace

std::vector<DividedSize> DividedSizes(const ModelConfig& model) {
  return {{Axis::kTensor, "model.heads", model.heads()},
          {Axis::kTensor, "model.kv_heads", model.kv_heads()},
          {Axis::kTensor, "model.feed_forward", model.feed_forward()}};
}

int64_t LeastLayers(const ParallelConfig& parallel) { return Product(parallel.pipeline(), parallel.chunks()); }

void CheckModel(const ModelConfig& model, const ParallelConfig& parallel, Rules& rules) {
  CheckByItself(model, rules);
  for (const AxisEntry& axis : Axes()) CheckDivided(model, parallel, axis, rules);
  if (rules.Good("model.vocabulary", "parallel.tensor") && model.vocabulary() > 0 &&
      model.vocabulary() < parallel.tensor()) {
    rules.Broken("model.vocabulary: ", model.vocabulary(), ", must be at least parallel.tensor ", parallel.tensor(),
                 ", which splits it; nearest legal: ", parallel.tensor());
  }
  if (rules.Good("model.layers", "parallel.pipeline", "parallel.chunks") && model.layers() < LeastLayers(parallel)) {
    rules.Broken("model.layers: ", model.layers(), ", must be at least parallel.pipeline ", parallel.pipeline(),
                 " x parallel.chunks ", parallel.chunks(), " = ", LeastLayers(parallel), "; nearest legal: ",
                 LeastLayers(parallel));
  }
}

}  // namespace trefoil
