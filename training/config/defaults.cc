#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "model/families/recipe.h"
#include "parallel/axes.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"
#include "runtime/devices/cuda.h"
#include "training/tasks/tasks.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

int32_t Saturated(int64_t value) {
  return static_cast<int32_t>(std::min<int64_t>(value, std::numeric_limits<int32_t>::max()));
}

void ParallelDefaults(ParallelConfig* parallel, int ranks) {
  int64_t others = 1;
  for (const AxisEntry& axis : Axes()) {
    if (axis.takes_rest) continue;
    if ((parallel->*axis.size)() == 0) (parallel->*axis.set_size)(1);
    others = std::max<int64_t>(0, Product(others, (parallel->*axis.size)()));
  }
  for (const AxisEntry& axis : Axes()) {
    if ((parallel->*axis.size)() != 0) continue;
    (parallel->*axis.set_size)(others > 0 ? static_cast<int32_t>(std::max<int64_t>(1, ranks / others)) : 1);
  }
  if (parallel->schedule() == ParallelConfig::SCHEDULE_UNSET) parallel->set_schedule(ParallelConfig::ONE_F_ONE_B);
  if (parallel->chunks() == 0) parallel->set_chunks(EntryOf(parallel->schedule()).least_chunks);
  if (parallel->replicas() == 0) parallel->set_replicas(1);
  if (parallel->zero() == ParallelConfig::ZERO_UNSET) parallel->set_zero(ParallelConfig::OPTIMIZER);
  if (parallel->recompute() == ParallelConfig::RECOMPUTE_UNSET) parallel->set_recompute(ParallelConfig::NOTHING);
  if (parallel->context_method() == ParallelConfig::CONTEXT_METHOD_UNSET) {
    parallel->set_context_method(ParallelConfig::RING);
  }
}

void OptimizerDefaults(OptimizerConfig* optimizer) {
  if (!optimizer->has_learning_rate()) optimizer->set_learning_rate(3e-4f);
  if (!optimizer->has_final_share()) optimizer->set_final_share(0.1f);
  if (!optimizer->has_beta1()) optimizer->set_beta1(0.9f);
  if (!optimizer->has_beta2()) optimizer->set_beta2(0.95f);
  if (!optimizer->has_epsilon()) optimizer->set_epsilon(1e-8f);
  if (!optimizer->has_weight_decay()) optimizer->set_weight_decay(0.1f);
  if (!optimizer->has_clip_norm()) optimizer->set_clip_norm(1);
  if (optimizer->schedule() == OptimizerConfig::SCHEDULE_UNSET) optimizer->set_schedule(OptimizerConfig::COSINE);
  if (!optimizer->has_decay_share()) optimizer->set_decay_share(0.2f);
}

void TrainingDefaults(TrainingConfig* training, bool bf16_pays) {
  if (training->micro_batch() == 0) training->set_micro_batch(1);
  if (!training->has_seed()) training->set_seed(1234);
  if (training->precision() == TrainingConfig::PRECISION_UNSET) {
    training->set_precision(bf16_pays ? TrainingConfig::BF16 : TrainingConfig::FP32);
  }
  OptimizerDefaults(training->mutable_optimizer());
  FineTuningConfig* fine_tuning = training->mutable_fine_tuning();
  if (!fine_tuning->has_layer_decay()) fine_tuning->set_layer_decay(1);
  CheckpointConfig* checkpoint = training->mutable_checkpoint();
  if (!checkpoint->has_keep_last()) checkpoint->set_keep_last(2);
  if (!checkpoint->has_failed_saves()) checkpoint->set_failed_saves(10);
  if (checkpoint->writing() == CheckpointConfig::WRITING_UNSET) checkpoint->set_writing(CheckpointConfig::BACKGROUND);
  if (checkpoint->memory_folder().empty()) checkpoint->set_memory_folder("/dev/shm");
  if (!training->has_evaluate_samples()) training->set_evaluate_samples(kEvaluationSamples);
  if (training->early_stop().by() == EarlyStopConfig::METRIC_UNSET) {
    training->mutable_early_stop()->set_by(EarlyStopConfig::LOSS);
  }
  if (!training->has_log_every_steps()) training->set_log_every_steps(1);
  if (training->on_nan() == TrainingConfig::ON_NAN_UNSET) training->set_on_nan(TrainingConfig::STOP);
  if (!training->has_on_nan_limit()) training->set_on_nan_limit(10);
}

bool CudnnCan(const RunConfig& config) {
  const ModelConfig& model = config.model();
  const DType dtype = config.training().precision() == TrainingConfig::FP32 ? DType::kFloat32 : DType::kBFloat16;
  return WhyNoCudnn(config).empty() && CudnnTakesAttention(dtype, model.head_dim(), model.sequence_length());
}

}  // namespace

std::string WhyNoCudnn(const RunConfig& config) {
  const ModelConfig& model = config.model();
  if (model.dropout() > 0) return absl::StrCat("model.dropout ", model.dropout(), ", whose mask it does not have");
  if (model.family() == ModelConfig::T5) return "model.family T5, whose relative positions it does not have";
  if (config.data().mask_documents()) return "data.mask_documents, which it does not have";
  if (model.sliding_window() > 0 && model.sliding_window() < model.sequence_length()) {
    return absl::StrCat("model.sliding_window ", model.sliding_window(), ", which it is not told of");
  }
  const ParallelConfig& parallel = config.parallel();
  if (parallel.context() > 1 && parallel.context_method() == ParallelConfig::RING) {
    return absl::StrCat("parallel.context ", parallel.context(),
                        " and context_method RING, whose parts it cannot mask");
  }
  const TaskConfig::Kind kind = config.task().kind();
  if (kind != TaskConfig::KIND_UNSET && TaskConfig::Kind_IsValid(kind) && EntryOf(kind).lengths) {
    return "task.kind " + TaskConfig::Kind_Name(kind) + ", whose padding it is not told of";
  }
  return "";
}

std::string WhyNoGraphs(const RunConfig& config) {
  const ParallelConfig& parallel = config.parallel();
  const auto must_be_one = [](const char* axis, int32_t found) {
    return std::string("parallel.") + axis + " is " + std::to_string(found) + ", must be 1";
  };
  if (parallel.pipeline() > 1) return must_be_one("pipeline", parallel.pipeline());
  if (parallel.data() > 1) return must_be_one("data", parallel.data());
  if (parallel.context() > 1) return must_be_one("context", parallel.context());
  if (parallel.schedule() != ParallelConfig::ONE_F_ONE_B) {
    return "parallel.schedule is " + ParallelConfig::Schedule_Name(parallel.schedule()) + ", must be ONE_F_ONE_B";
  }
  if (config.training().gradient_groups() > parallel.data()) {
    return "training.gradient_groups is " + std::to_string(config.training().gradient_groups()) + ", must be 1";
  }
  if (config.model().dropout() > 0) return "model.dropout is above 0, and a recording would drop the same elements again";
  if (config.model().stochastic_depth() > 0) {
    return "model.stochastic_depth is above 0, and a recording would drop the same samples again";
  }
  if (parallel.tensor() > 1 && config.runtime().messages() != RuntimeConfig::NCCL) {
    return must_be_one("tensor", parallel.tensor()) + " with runtime.messages HOST";
  }
  return "";
}

void RopeScalingDefaults(ModelConfig* model) {
  if (model->rope_scaling().kind() == RopeScaling::LLAMA3) {
    RopeScaling& scaling = *model->mutable_rope_scaling();
    if (scaling.low_frequency_factor() == 0) scaling.set_low_frequency_factor(1);
    if (scaling.high_frequency_factor() == 0) scaling.set_high_frequency_factor(4);
  } else if (model->rope_scaling().kind() == RopeScaling::YARN) {
    RopeScaling& scaling = *model->mutable_rope_scaling();
    if (scaling.beta_fast() == 0) scaling.set_beta_fast(32);
    if (scaling.beta_slow() == 0) scaling.set_beta_slow(1);
    if (scaling.attention_factor() == 0 && scaling.factor() >= 1) {
      scaling.set_attention_factor(static_cast<float>(0.1 * std::log(static_cast<double>(scaling.factor())) + 1));
    }
  }
}

void ModelDefaults(ModelConfig* model) {
  const bool known = model->family() != ModelConfig::FAMILY_UNSET && ModelConfig::Family_IsValid(model->family());
  const Recipe recipe = known ? RecipeOf(*model) : Recipe();
  const bool recurrent = recipe.structure == Recipe::Structure::kRecurrent;
  if (recurrent && model->heads() == 0) model->set_heads(1);
  const int64_t hidden = model->hidden(), heads = model->heads();
  if (model->kv_heads() == 0 && heads > 0) model->set_kv_heads(model->heads());
  if (model->head_dim() == 0 && heads > 0 && hidden > 0 && hidden % heads == 0) {
    model->set_head_dim(static_cast<int32_t>(hidden / heads));
  }
  if (model->feed_forward() == 0 && hidden > 0) {
    // 8/3 x hidden, rounded up to 256: three matrices of this width have as many weights as GPT's two of 4 x hidden.
    model->set_feed_forward(Saturated(recipe.gated ? (hidden * 8 + 3 * 256 - 1) / (3 * 256) * 256 : hidden * 4));
  }
  if (!model->has_rope_theta() && recipe.positions == Recipe::Positions::kRotary) model->set_rope_theta(10000);
  RopeScalingDefaults(model);
  if (!model->has_norm_epsilon()) model->set_norm_epsilon(recipe.norm_epsilon);
  if (!model->has_initial_deviation()) model->set_initial_deviation(recipe.own_deviations ? 0 : 0.02f);
  if (model->lora().rank() > 0) {
    LoraConfig& lora = *model->mutable_lora();
    if (!lora.has_alpha()) lora.set_alpha(static_cast<float>(lora.rank()));
    if (lora.on().empty()) {
      lora.add_on(LoraConfig::QUERY);
      lora.add_on(LoraConfig::VALUE);
    }
  }
  if (!known) return;
  model->set_tied(recipe.tied);
  model->set_qkv_bias(recipe.qkv_bias);
  model->set_qk_norm(recipe.qk_norm);
  if (!recurrent) {
    model->set_attention_output_bias(recipe.attention_output_bias);
    model->set_mlp_bias(recipe.mlp_bias);
    if (model->activation() == ModelConfig::ACTIVATION_UNSET) model->set_activation(ActivationName(recipe));
    model->set_gated(recipe.gated);
  }
  const bool vision = recipe.structure == Recipe::Structure::kVision;
  if (model->head() == ModelConfig::HEAD_UNSET) model->set_head(vision ? ModelConfig::CLASSES : ModelConfig::TOKENS);
  if (model->pooling() == ModelConfig::POOLING_UNSET) model->set_pooling(ModelConfig::FIRST);
  if (model->targets() == 0 && model->sequence_length() > 0) model->set_targets(model->sequence_length());
  const bool patches = vision && model->head() == ModelConfig::PATCHES;
  if (model->decoder_layers() == 0 && recipe.structure == Recipe::Structure::kEncoderDecoder) {
    model->set_decoder_layers(model->layers());
  }
  if (!patches) return;
  if (model->decoder_layers() == 0) model->set_decoder_layers(8);
  if (model->decoder_hidden() == 0) model->set_decoder_hidden(512);
  if (model->decoder_heads() == 0) model->set_decoder_heads(16);
}

void FillDefaults(RunConfig* config, int ranks, const Bf16Defaults& bf16) {
  CHECK_GE(ranks, 1);
  FillTask(config);
  ModelDefaults(config->mutable_model());
  ParallelDefaults(config->mutable_parallel(), ranks);
  TrainingDefaults(config->mutable_training(), bf16.pays);
  if (!config->data().has_seed()) config->mutable_data()->set_seed(config->training().seed());
  RuntimeConfig* runtime = config->mutable_runtime();
  if (runtime->timeout_seconds() == 0) runtime->set_timeout_seconds(600);
  const int32_t long_waits = std::max(3600, runtime->timeout_seconds());
  if (runtime->startup_timeout_seconds() == 0) runtime->set_startup_timeout_seconds(long_waits);
  if (runtime->save_timeout_seconds() == 0) runtime->set_save_timeout_seconds(long_waits);
  if (runtime->device() == RuntimeConfig::DEVICE_UNSET) runtime->set_device(RuntimeConfig::CPU);
  if (runtime->sums() == RuntimeConfig::SUMS_UNSET) runtime->set_sums(RuntimeConfig::ORDERED);
  if (runtime->device() == RuntimeConfig::CPU && runtime->bf16_products() == RuntimeConfig::BF16_PRODUCTS_UNSET &&
      config->training().precision() != TrainingConfig::FP32) {
    runtime->set_bf16_products(bf16.products);
  }
  if (runtime->device() == RuntimeConfig::CUDA && runtime->messages() == RuntimeConfig::MESSAGES_UNSET) {
    runtime->set_messages(RuntimeConfig::NCCL);
  }
  if (runtime->device() == RuntimeConfig::CUDA && runtime->attention() == RuntimeConfig::ATTENTION_UNSET) {
    const bool twice = config->training().compute_twice_every_steps() > 0;
    const auto cudnn = twice ? RuntimeConfig::CUDNN_DETERMINISTIC : RuntimeConfig::CUDNN;
    runtime->set_attention(CudnnCan(*config) ? cudnn : RuntimeConfig::OWN);
  }
  if (runtime->device() == RuntimeConfig::CUDA && runtime->graphs() == RuntimeConfig::GRAPHS_UNSET) {
    runtime->set_graphs(WhyNoGraphs(*config).empty() ? RuntimeConfig::ON : RuntimeConfig::OFF);
  }
}

}  // namespace trefoil
