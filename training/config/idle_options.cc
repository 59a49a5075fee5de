#include "training/config/idle_options.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "model/families/recipe.h"
#include "parallel/axes.h"

namespace trefoil {
namespace {

std::string ScheduleText(const RunConfig& filled) {
  return OptimizerConfig::Schedule_Name(filled.training().optimizer().schedule());
}

// A row for each option that depends on another.
struct Row {
  const char* path;
  // Its value if it is given; empty if not.
  std::string (*value)(const RunConfig& given);
  // "without data.held_out", if that is so; empty if the option has its effect.
  std::string (*why)(const RunConfig& filled);
};

std::string WithoutHeldOut(const RunConfig& filled) {
  return filled.data().held_out().empty() ? "without data.held_out" : "";
}

std::string OnGpus(const RunConfig& filled) {
  return filled.runtime().device() == RuntimeConfig::CUDA ? "with runtime.device CUDA" : "";
}

template <typename T>
std::string IfNot(T none, T value) {
  return value == none ? "" : absl::StrCat(value);
}

std::string FirstOf(const google::protobuf::RepeatedField<double>& values) {
  return values.empty() ? "" : absl::StrCat(values[0]);
}

std::string WithoutSearch(const RunConfig& filled) {
  const ParallelConfig::Schedule schedule = filled.parallel().schedule();
  return schedule == ParallelConfig::AUTO ? "" : "with parallel.schedule " + ParallelConfig::Schedule_Name(schedule);
}

bool HasFamily(const RunConfig& filled) { return filled.model().family() != ModelConfig::FAMILY_UNSET; }

// Unless the task is one of `kinds`.
template <typename... Kind>
std::string OnlyFor(const RunConfig& filled, Kind... kinds) {
  if (!HasFamily(filled) || ((filled.task().kind() == kinds) || ...)) return "";
  return "with task.kind " + TaskConfig::Kind_Name(filled.task().kind());
}

std::string OnlyForImages(const RunConfig& filled) {
  return OnlyFor(filled, TaskConfig::IMAGE_CLASSES, TaskConfig::PATCHES);
}

std::string WithRecurrent(const RunConfig& filled) {
  const bool recurrent = HasFamily(filled) && RecipeOf(filled.model()).structure == Recipe::Structure::kRecurrent;
  return recurrent ? "with model.family " + ModelConfig::Family_Name(filled.model().family()) : "";
}

std::string WithoutLora(const RunConfig& filled) {
  return filled.model().lora().rank() == 0 ? "without model.lora.rank" : "";
}

const Row kRows[] = {
    {"model.heads", [](const RunConfig& given) { return IfNot(0, given.model().heads()); }, WithRecurrent},
    {"model.kv_heads", [](const RunConfig& given) { return IfNot(0, given.model().kv_heads()); }, WithRecurrent},
    {"model.head_dim", [](const RunConfig& given) { return IfNot(0, given.model().head_dim()); }, WithRecurrent},
    {"model.feed_forward", [](const RunConfig& given) { return IfNot(0, given.model().feed_forward()); },
     WithRecurrent},
    {"model.norm_epsilon",
     [](const RunConfig& given) {
       return given.model().has_norm_epsilon() ? absl::StrCat(given.model().norm_epsilon()) : "";
     },
     WithRecurrent},
    {"model.pooling",
     [](const RunConfig& given) {
       return given.model().pooling() == ModelConfig::MEAN ? std::string("MEAN") : "";
     },
     [](const RunConfig& filled) {
       return OnlyFor(filled, TaskConfig::TEXT_CLASSES, TaskConfig::TEXT_VALUE, TaskConfig::IMAGE_CLASSES);
     }},
    {"model.lora.alpha",
     [](const RunConfig& given) {
       return given.model().lora().has_alpha() ? absl::StrCat(given.model().lora().alpha()) : "";
     },
     WithoutLora},
    {"model.lora.on",
     [](const RunConfig& given) {
       return given.model().lora().on().empty() ? "" : LoraConfig::Target_Name(given.model().lora().on(0));
     },
     WithoutLora},
    {"task.mask_rate",
     [](const RunConfig& given) { return given.task().has_mask_rate() ? absl::StrCat(given.task().mask_rate()) : ""; },
     [](const RunConfig& filled) {
       return OnlyFor(filled, TaskConfig::MASKED_TOKEN, TaskConfig::SPAN_CORRUPTION, TaskConfig::PATCHES);
     }},
    {"task.whole_words", [](const RunConfig& given) { return given.task().whole_words() ? std::string("true") : ""; },
     [](const RunConfig& filled) { return OnlyFor(filled, TaskConfig::MASKED_TOKEN); }},
    {"task.mean_span",
     [](const RunConfig& given) { return given.task().has_mean_span() ? absl::StrCat(given.task().mean_span()) : ""; },
     [](const RunConfig& filled) { return OnlyFor(filled, TaskConfig::SPAN_CORRUPTION); }},
    {"task.label_smoothing", [](const RunConfig& given) { return IfNot(0.0f, given.task().label_smoothing()); },
     [](const RunConfig& filled) {
       const bool values = filled.task().kind() == TaskConfig::TEXT_VALUE || filled.task().kind() == TaskConfig::PATCHES;
       return values ? "with task.kind " + TaskConfig::Kind_Name(filled.task().kind()) : "";
     }},
    {"task.class_names",
     [](const RunConfig& given) { return absl::StrJoin(given.task().class_names(), ", "); },
     [](const RunConfig& filled) {
       return OnlyFor(filled, TaskConfig::TEXT_CLASSES, TaskConfig::TOKEN_CLASSES, TaskConfig::IMAGE_CLASSES);
     }},
    {"task.examples", [](const RunConfig& given) { return IfNot(0, given.task().examples()); },
     [](const RunConfig& filled) {
       return OnlyFor(filled, TaskConfig::TEXT_CLASSES, TaskConfig::TOKEN_CLASSES, TaskConfig::TEXT_VALUE,
                      TaskConfig::IMAGE_CLASSES, TaskConfig::PATCHES);
     }},
    {"task.crop",
     [](const RunConfig& given) { return given.task().has_crop() ? absl::StrCat(given.task().crop()) : ""; },
     OnlyForImages},
    {"task.crop_padding", [](const RunConfig& given) { return IfNot(0, given.task().crop_padding()); }, OnlyForImages},
    {"task.flip", [](const RunConfig& given) { return given.task().flip() ? std::string("true") : ""; }, OnlyForImages},
    {"task.pixel_mean",
     [](const RunConfig& given) { return given.task().has_pixel_mean() ? absl::StrCat(given.task().pixel_mean()) : ""; },
     OnlyForImages},
    {"task.pixel_deviation",
     [](const RunConfig& given) {
       return given.task().has_pixel_deviation() ? absl::StrCat(given.task().pixel_deviation()) : "";
     },
     OnlyForImages},
    {"parallel.zero",
     [](const RunConfig& given) {
       const ParallelConfig::Zero zero = given.parallel().zero();
       return zero >= ParallelConfig::GRADIENTS ? ParallelConfig::Zero_Name(zero) : "";
     },
     [](const RunConfig& filled) {
       const bool replicated = filled.parallel().data() > 1 || filled.parallel().context() > 1;
       return replicated ? "" : std::string("with parallel.data 1");
     }},
    {"parallel.replicas",
     [](const RunConfig& given) {
       return given.parallel().replicas() > 1 ? absl::StrCat(given.parallel().replicas()) : "";
     },
     [](const RunConfig& filled) {
       return filled.parallel().zero() == ParallelConfig::NONE ? std::string("with parallel.zero NONE") : "";
     }},
    {"parallel.recompute",
     [](const RunConfig& given) {
       const ParallelConfig::Recompute recompute = given.parallel().recompute();
       const bool some = recompute == ParallelConfig::SELECTIVE || recompute == ParallelConfig::FULL;
       return some ? ParallelConfig::Recompute_Name(recompute) : "";
     },
     WithRecurrent},
    {"parallel.context_method",
     [](const RunConfig& given) {
       const ParallelConfig::ContextMethod method = given.parallel().context_method();
       return method == ParallelConfig::ALL_TO_ALL ? ParallelConfig::ContextMethod_Name(method) : "";
     },
     [](const RunConfig& filled) {
       return filled.parallel().context() > 1 ? "" : std::string("with parallel.context 1");
     }},
    {"parallel.schedule_search.forward",
     [](const RunConfig& given) { return FirstOf(given.parallel().schedule_search().forward()); }, WithoutSearch},
    {"parallel.schedule_search.backward_input",
     [](const RunConfig& given) { return FirstOf(given.parallel().schedule_search().backward_input()); },
     WithoutSearch},
    {"parallel.schedule_search.backward_weight",
     [](const RunConfig& given) { return FirstOf(given.parallel().schedule_search().backward_weight()); },
     WithoutSearch},
    {"parallel.schedule_search.message",
     [](const RunConfig& given) { return IfNot(0.0, given.parallel().schedule_search().message()); }, WithoutSearch},
    {"parallel.schedule_search.in_flight",
     [](const RunConfig& given) { return IfNot(0, given.parallel().schedule_search().in_flight()); }, WithoutSearch},
    {"data.weights",
     [](const RunConfig& given) { return given.data().weights().empty() ? std::string() : absl::StrCat(given.data().weights(0)); },
     [](const RunConfig& filled) { return filled.data().train_size() == 1 ? std::string("with one entry of data.train") : ""; }},
    {"training.checkpoint.writing",
     [](const RunConfig& given) {
       const CheckpointConfig::Writing writing = given.training().checkpoint().writing();
       return writing == CheckpointConfig::WRITING_UNSET ? "" : CheckpointConfig::Writing_Name(writing);
     },
     [](const RunConfig& filled) {
       const CheckpointConfig& checkpoint = filled.training().checkpoint();
       const bool saves = checkpoint.every_steps() > 0 || checkpoint.every_steps_in_memory() > 0 ||
                          filled.training().early_stop().evaluations() > 0;
       return saves ? std::string() : "without every_steps, as the last save of a run is in the foreground";
     }},
    {"training.checkpoint.copies",
     [](const RunConfig& given) {
       const CheckpointConfig& checkpoint = given.training().checkpoint();
       return checkpoint.has_copies() ? absl::StrCat(checkpoint.copies()) : "";
     },
     [](const RunConfig& filled) {
       return filled.training().checkpoint().folder().empty() ? std::string("without checkpoint.folder") : "";
     }},
    {"training.checkpoint.memory_folder",
     [](const RunConfig& given) { return given.training().checkpoint().memory_folder(); },
     [](const RunConfig& filled) {
       const bool used = filled.training().checkpoint().every_steps_in_memory() > 0;
       return used ? std::string() : "without checkpoint.every_steps_in_memory";
     }},
    {"training.evaluate_every_steps",
     [](const RunConfig& given) { return IfNot(0, given.training().evaluate_every_steps()); }, WithoutHeldOut},
    {"training.evaluate_samples",
     [](const RunConfig& given) {
       return given.training().has_evaluate_samples() ? absl::StrCat(given.training().evaluate_samples()) : "";
     },
     WithoutHeldOut},
    {"training.on_nan_limit",
     [](const RunConfig& given) {
       return given.training().has_on_nan_limit() ? absl::StrCat(given.training().on_nan_limit()) : "";
     },
     [](const RunConfig& filled) {
       return filled.training().on_nan() == TrainingConfig::SKIP ? "" : std::string("without on_nan SKIP");
     }},
    {"training.early_stop.evaluations",
     [](const RunConfig& given) { return IfNot(0, given.training().early_stop().evaluations()); }, WithoutHeldOut},
    {"training.early_stop.by",
     [](const RunConfig& given) {
       return given.training().early_stop().by() == EarlyStopConfig::ACCURACY ? std::string("ACCURACY") : "";
     },
     [](const RunConfig& filled) {
       return filled.training().early_stop().evaluations() > 0 ? "" : std::string("without early_stop.evaluations");
     }},
    {"training.optimizer.decay_share",
     [](const RunConfig& given) {
       const OptimizerConfig& optimizer = given.training().optimizer();
       return optimizer.has_decay_share() ? absl::StrCat(optimizer.decay_share()) : "";
     },
     [](const RunConfig& filled) {
       const bool used = filled.training().optimizer().schedule() == OptimizerConfig::WSD;
       return used ? "" : "with schedule " + ScheduleText(filled) + ", only with WSD";
     }},
    {"training.optimizer.final_share",
     [](const RunConfig& given) {
       const OptimizerConfig& optimizer = given.training().optimizer();
       return optimizer.has_final_share() ? absl::StrCat(optimizer.final_share()) : "";
     },
     [](const RunConfig& filled) {
       const OptimizerConfig::Schedule schedule = filled.training().optimizer().schedule();
       const bool ends = schedule != OptimizerConfig::CONSTANT && schedule != OptimizerConfig::INVERSE_SQRT;
       return ends ? "" : "with schedule " + ScheduleText(filled);
     }},
    {"parallel.sequence_parallel",
     [](const RunConfig& given) { return given.parallel().sequence_parallel() ? std::string("true") : ""; },
     [](const RunConfig& filled) { return filled.parallel().tensor() == 1 ? std::string("with parallel.tensor 1") : ""; }},
    {"runtime.bf16_products",
     [](const RunConfig& given) {
       const RuntimeConfig::Bf16Products products = given.runtime().bf16_products();
       return products == RuntimeConfig::BF16_PRODUCTS_UNSET ? "" : RuntimeConfig::Bf16Products_Name(products);
     },
     [](const RunConfig& filled) {
       if (!OnGpus(filled).empty()) return OnGpus(filled);
       return filled.training().precision() == TrainingConfig::FP32 ? std::string("with training.precision FP32") : "";
     }},
    {"runtime.sums",
     [](const RunConfig& given) {
       const RuntimeConfig::Sums sums = given.runtime().sums();
       return sums == RuntimeConfig::SUMS_UNSET ? "" : RuntimeConfig::Sums_Name(sums);
     },
     [](const RunConfig& filled) {
       return RanksOfMesh(filled.parallel()) == 1 ? std::string("on one rank") : "";
     }},
    {"runtime.threads", [](const RunConfig& given) { return IfNot(0, given.runtime().threads()); }, OnGpus},
};

}  // namespace

std::vector<std::string> IdleOptions(const RunConfig& given, const RunConfig& filled) {
  std::vector<std::string> lines;
  for (const Row& row : kRows) {
    const std::string value = row.value(given), why = row.why(filled);
    if (!value.empty() && !why.empty()) lines.push_back(absl::StrCat(row.path, ": ", value, " has no effect ", why));
  }
  return lines;
}

}  // namespace trefoil
