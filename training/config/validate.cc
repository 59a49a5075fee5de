#include "training/config/validate.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "data/mixture.h"
#include "runtime/devices/cuda.h"
#include "training/config/nearest.h"

namespace trefoil {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) names.push_back(type.value(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

class Checker {
 public:
  Checker(const RunConfig& config, int ranks) : config_(config), ranks_(ranks) {}

  std::vector<std::string> Run() {
    Fields(config_, "");
    Model();
    Parallel();
    Data();
    Training();
    Float8();
    Runtime();
    return std::move(lines_);
  }

 private:
  // A field wrong by itself; it takes part in no further rule.
  void Bad(const std::string& path, const std::string& problem) {
    if (bad_.insert(path).second) lines_.push_back(absl::StrCat(path, ": ", problem));
  }
  void Skip(const std::string& path) { bad_.insert(path); }
  // A rule among several fields.
  template <typename... T>
  void Broken(const T&... parts) {
    lines_.push_back(absl::StrCat(parts...));
  }
  template <typename... T>
  bool Good(const T&... paths) const {
    return (!bad_.contains(paths) && ...);
  }

  void AtLeastOne(const std::string& path, int64_t value) {
    if (value < 1 && Good(path)) Bad(path, absl::StrCat(value, ", must be at least 1; nearest legal: 1"));
  }
  // A value in [0, 1), or [0, 1] if `one`.
  void Share(const std::string& path, double value, bool one) {
    if (!Good(path) || value < 1 || (one && value == 1)) return;
    Bad(path, absl::StrCat(value, ", must be in [0, 1", one ? "]" : ")", "; nearest legal: ", one ? "1" : "0.999"));
  }
  void Positive(const std::string& path, double value, const char* usual) {
    if (Good(path) && value <= 0) Bad(path, absl::StrCat(value, ", must be above 0; usual: ", usual));
  }

  // Rules that hold for every field of every message: numbers are finite and not negative, enums are known.
  void Fields(const Message& message, const std::string& prefix) {
    const Reflection& reflection = *message.GetReflection();
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* field = message.GetDescriptor()->field(i);
      const std::string path = prefix + field->name();
      if (field->is_repeated()) continue;
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          Fields(reflection.GetMessage(message, field), path + ".");
          break;
        case FieldDescriptor::CPPTYPE_INT32:
          NotNegative(path, reflection.GetInt32(message, field));
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          NotNegative(path, reflection.GetInt64(message, field));
          break;
        case FieldDescriptor::CPPTYPE_FLOAT:
          NotNegative(path, reflection.GetFloat(message, field));
          break;
        case FieldDescriptor::CPPTYPE_DOUBLE:
          NotNegative(path, reflection.GetDouble(message, field));
          break;
        case FieldDescriptor::CPPTYPE_ENUM: {
          const int value = reflection.GetEnumValue(message, field);
          if (field->enum_type()->FindValueByNumber(value) == nullptr) {
            Bad(path, absl::StrCat(value, ", not one of its choices; legal: ", EnumNames(*field->enum_type())));
          }
          break;
        }
        default:
          break;
      }
    }
  }
  template <typename T>
  void NotNegative(const std::string& path, T value) {
    if constexpr (std::is_floating_point_v<T>) {
      if (!std::isfinite(value)) {
        Bad(path, absl::StrCat(value, ", must be a finite number; nearest legal: leave it out for its default"));
        return;
      }
    }
    // 0 is "default" for most fields, and a value of its own for the others: always the nearest legal value.
    if (value < 0) Bad(path, absl::StrCat(value, ", must not be negative; nearest legal: 0"));
  }

  void Model() {
    const ModelConfig& model = config_.model();
    if (model.family() == ModelConfig::FAMILY_UNSET) {
      Bad("model.family", absl::StrCat("not set; legal: ", EnumNames(*ModelConfig::Family_descriptor())));
    }
    AtLeastOne("model.layers", model.layers());
    AtLeastOne("model.hidden", model.hidden());
    AtLeastOne("model.heads", model.heads());
    AtLeastOne("model.sequence_length", model.sequence_length());
    // Their defaults come from heads and hidden.
    Good("model.heads") ? AtLeastOne("model.kv_heads", model.kv_heads()) : Skip("model.kv_heads");
    Good("model.hidden") ? AtLeastOne("model.feed_forward", model.feed_forward()) : Skip("model.feed_forward");
    const bool llama = model.family() == ModelConfig::LLAMA;

    if (Good("model.hidden", "model.heads", "model.head_dim") && model.head_dim() == 0) {
      Bad("model.head_dim", absl::StrCat("not set, and model.hidden ", model.hidden(),
                                         " is not a multiple of model.heads ", model.heads(), "; nearest hidden: ",
                                         NearestMultiples(model.heads(), model.hidden()), ", or set head_dim"));
    }
    if (Good("model.family", "model.heads", "model.head_dim") && llama && model.head_dim() % 2 != 0) {
      Broken("model.head_dim: ", model.head_dim(), ", must be even for LLAMA, whose rotary positions turn pairs; ",
             "nearest legal: ", NearestMultiples(2, model.head_dim()));
    }
    if (Good("model.heads", "model.kv_heads") && model.heads() % model.kv_heads() != 0) {
      Broken("model.kv_heads: ", model.kv_heads(), " does not divide model.heads ", model.heads(), "; nearest legal: ",
             NearestDivisors(model.heads(), model.kv_heads()));
    }
    if (Good("model.vocabulary") && model.vocabulary() == 0) {
      Bad("model.vocabulary", "not set, and no tokenizer says it (data.tokenizer, or tokenizer.model beside the first of "
                              "data.train); must be above every token id, such as 50257 for GPT-2's");
    }
    Positive("model.norm_epsilon", model.norm_epsilon(), "1e-5");
    Positive("model.initial_deviation", model.initial_deviation(), "0.02");
    if (llama) Positive("model.rope_theta", model.rope_theta(), "10000");
    Share("model.dropout", model.dropout(), false);
    if (Good("model.dropout", "model.family") && llama && model.dropout() > 0) {
      Broken("model.dropout: ", model.dropout(), ", must be 0 for LLAMA, whose recipe has none; nearest legal: 0");
    }
    if (Good("model.rope_theta", "model.family") && !llama && model.rope_theta() != 0) {
      Broken("model.rope_theta: ", model.rope_theta(), ", must be 0 for GPT, which has no rotary positions; ",
             "nearest legal: 0");
    }
  }

  void Parallel() {
    const ModelConfig& model = config_.model();
    const ParallelConfig& parallel = config_.parallel();
    AtLeastOne("parallel.tensor", parallel.tensor());
    AtLeastOne("parallel.pipeline", parallel.pipeline());
    AtLeastOne("parallel.data", parallel.data());
    AtLeastOne("parallel.chunks", parallel.chunks());
    const bool axes = Good("parallel.tensor", "parallel.pipeline", "parallel.data");
    if (axes) {
      const int64_t product = Product(Product(parallel.tensor(), parallel.pipeline()), parallel.data());
      if (product != ranks_) {
        Broken("parallel: tensor ", parallel.tensor(), " x pipeline ", parallel.pipeline(), " x data ", parallel.data(),
               " = ", product, ", but the job has ", ranks_, ranks_ == 1 ? " rank" : " ranks",
               "; nearest legal: ", NearestMesh());
      }
    }
    if (Good("parallel.tensor")) TensorDivides();
    if (Good("model.vocabulary", "parallel.tensor") && model.vocabulary() > 0 &&
        model.vocabulary() < parallel.tensor()) {
      Broken("model.vocabulary: ", model.vocabulary(), ", must be at least parallel.tensor ", parallel.tensor(),
             ", which splits it; nearest legal: ", parallel.tensor());
    }

    const bool interleaved = parallel.schedule() == ParallelConfig::INTERLEAVED;
    if (Good("parallel.chunks", "parallel.schedule")) {
      if (interleaved && parallel.chunks() < 2) {
        Broken("parallel.chunks: ", parallel.chunks(), ", must be at least 2 with INTERLEAVED; nearest legal: 2");
      } else if (!interleaved && parallel.chunks() != 1) {
        Broken("parallel.chunks: ", parallel.chunks(), ", must be 1 without the schedule INTERLEAVED; nearest legal: 1",
               " (or schedule: INTERLEAVED)");
      }
    }
    if (Good("parallel.schedule", "parallel.pipeline") && interleaved && parallel.pipeline() < 2) {
      Broken("parallel.schedule: INTERLEAVED, must have a parallel.pipeline of at least 2, found ", parallel.pipeline(),
             "; nearest legal: ONE_F_ONE_B");
    }
    if (Good("model.layers", "parallel.pipeline", "parallel.chunks")) {
      const int64_t parts = Product(parallel.pipeline(), parallel.chunks());
      if (model.layers() < parts) {
        Broken("model.layers: ", model.layers(), ", must be at least parallel.pipeline ", parallel.pipeline(),
               " x parallel.chunks ", parallel.chunks(), " = ", parts, "; nearest legal: ", parts);
      }
    }
    if (Good("model.sequence_length", "training.micro_batch", "parallel.tensor") && parallel.sequence_parallel()) {
      const int64_t tokens = Product(config_.training().micro_batch(), model.sequence_length());
      if (tokens % parallel.tensor() != 0) {
        const int64_t unit = parallel.tensor() / std::gcd(parallel.tensor(), config_.training().micro_batch());
        Broken("model.sequence_length: ", model.sequence_length(), " x training.micro_batch ",
               config_.training().micro_batch(), " = ", tokens, " is not a multiple of parallel.tensor ",
               parallel.tensor(), ", which splits the tokens under sequence_parallel; nearest sequence_length: ",
               NearestMultiples(unit, model.sequence_length()));
      }
    }
  }

  struct Split {
    std::string path;
    int64_t size;
  };
  // What the tensor axis splits evenly, fields that are wrong by themselves left out.
  std::vector<Split> Splits() const {
    const ModelConfig& model = config_.model();
    std::vector<Split> splits;
    for (Split split : {Split{"model.heads", model.heads()}, Split{"model.kv_heads", model.kv_heads()},
                        Split{"model.feed_forward", model.feed_forward()}}) {
      if (Good(split.path) && split.size > 0) splits.push_back(std::move(split));
    }
    return splits;
  }

  void TensorDivides() {
    const std::vector<Split> splits = Splits();
    int64_t common = 0;
    std::vector<std::string> names;
    for (const Split& split : splits) {
      common = std::gcd(common, split.size);
      names.push_back(split.path.substr(split.path.find('.') + 1));
    }
    const int64_t tensor = config_.parallel().tensor();
    for (const Split& split : splits) {
      if (split.size % tensor == 0) continue;
      Broken(split.path, ": ", split.size, " is not a multiple of parallel.tensor ", tensor,
             "; nearest tensor sizes that divide ", absl::StrJoin(names, " and "), ": ",
             NearestDivisors(common, tensor));
    }
  }

  // The mesh of `ranks_` ranks with the smallest change of its axes (as a ratio), of those the config allows if any.
  std::string NearestMesh() const {
    const ParallelConfig& parallel = config_.parallel();
    const std::vector<Split> splits = Splits();
    const auto change = [](double wanted, double found) { return std::abs(std::log(found / wanted)); };
    double best_cost = std::numeric_limits<double>::infinity();
    int64_t best_tensor = 1, best_pipeline = 1;
    for (const int64_t tensor : Divisors(ranks_)) {
      for (const int64_t pipeline : Divisors(ranks_ / tensor)) {
        const int64_t data = ranks_ / tensor / pipeline;
        double cost = change(parallel.tensor(), tensor) + change(parallel.pipeline(), pipeline) +
                      change(parallel.data(), data);
        constexpr double kIllegal = 1e6;  // far above any change, so that these are the last choice
        for (const Split& split : splits) cost += split.size % tensor == 0 ? 0 : kIllegal;
        if (Good("model.layers", "parallel.chunks") &&
            config_.model().layers() < Product(pipeline, parallel.chunks())) {
          cost += kIllegal;
        }
        if (parallel.schedule() == ParallelConfig::INTERLEAVED && pipeline == 1) cost += kIllegal;
        if (Good("training.global_batch", "training.micro_batch") &&
            config_.training().global_batch() % Product(config_.training().micro_batch(), data) != 0) {
          cost += kIllegal;
        }
        if (cost < best_cost) {
          best_cost = cost;
          best_tensor = tensor;
          best_pipeline = pipeline;
        }
      }
    }
    return absl::StrCat("tensor ", best_tensor, " x pipeline ", best_pipeline, " x data ",
                        ranks_ / best_tensor / best_pipeline);
  }

  void Data() {
    if (config_.folder().empty()) {
      Bad("folder", "empty, must name the run's folder; for example: folder: \"runs/first\"");
    }
    const DataConfig& data = config_.data();
    if (data.train().empty()) {
      Bad("data.train", "empty, must name token files by prefix; for example: train: \"corpus/train-*\"");
    }
    for (int i = 0; i < data.train_size(); ++i) {
      if (data.train(i).empty()) Bad(absl::StrCat("data.train[", i, "]"), "empty, must name token files; remove it");
    }
    for (int i = 0; i < data.held_out_size(); ++i) {
      if (data.held_out(i).empty()) {
        Bad(absl::StrCat("data.held_out[", i, "]"), "empty, must name token files; remove it");
      }
    }
    Weights(data);
  }

  void Weights(const DataConfig& data) {
    if (data.weights().empty()) return;
    if (data.weights_size() != data.train_size()) {
      Bad("data.weights", absl::StrCat(data.weights_size(), " of them, must be one for each entry of data.train, which has ",
                                       data.train_size(), "; nearest legal: ", data.train_size(), ", or none"));
      return;
    }
    double sum = 0;
    for (int i = 0; i < data.weights_size(); ++i) {
      const double weight = data.weights(i);
      sum += weight;
      if (std::isfinite(weight) && weight > 0) continue;
      Bad(absl::StrCat("data.weights[", i, "]"),
          absl::StrCat(weight, ", must be a finite number above 0; nearest legal: leave ", data.train(i), " out"));
      return;
    }
    for (int i = 0; i < data.weights_size(); ++i) {
      if (data.weights(i) >= Mixture::kLeastShare * sum) continue;
      Bad(absl::StrCat("data.weights[", i, "]"),
          absl::StrCat(data.weights(i), ", must be at least ", Mixture::kLeastShare, " of their sum ", sum,
                       "; nearest legal: ", Mixture::kLeastShare * sum));
    }
  }

  void Training() {
    const TrainingConfig& training = config_.training();
    const ParallelConfig& parallel = config_.parallel();
    AtLeastOne("training.steps", training.steps());
    AtLeastOne("training.micro_batch", training.micro_batch());
    AtLeastOne("training.global_batch", training.global_batch());
    AtLeastOne("training.log_every_steps", training.log_every_steps());
    AtLeastOne("training.on_nan_limit", training.on_nan_limit());
    if (training.has_evaluate_samples()) AtLeastOne("training.evaluate_samples", training.evaluate_samples());
    if (Good("training.global_batch", "training.micro_batch", "parallel.data")) {
      const int64_t unit = Product(training.micro_batch(), parallel.data());
      if (training.global_batch() % unit != 0) {
        Broken("training.global_batch: ", training.global_batch(), " is not a multiple of training.micro_batch ",
               training.micro_batch(), " x parallel.data ", parallel.data(), " = ", unit, "; nearest legal: ",
               NearestMultiples(unit, training.global_batch()));
      } else if (Good("parallel.schedule", "parallel.pipeline") && parallel.schedule() == ParallelConfig::INTERLEAVED &&
                 training.global_batch() / unit % parallel.pipeline() != 0) {
        Broken("training.global_batch: ", training.global_batch(), " makes ", training.global_batch() / unit,
               " micro-batches per step, which INTERLEAVED needs to be a multiple of parallel.pipeline ",
               parallel.pipeline(), "; nearest legal: ",
               NearestMultiples(Product(unit, parallel.pipeline()), training.global_batch()));
      }
    }

    const CheckpointConfig& checkpoint = training.checkpoint();
    AtLeastOne("training.checkpoint.failed_saves", checkpoint.failed_saves());
    if (checkpoint.keep_every() > 0 && checkpoint.keep_last() == 0) {
      Broken("training.checkpoint.keep_every: ", checkpoint.keep_every(), ", but keep_last 0 keeps all; nearest legal: ",
             "keep_last 2, or keep_every 0");
    }
    if (checkpoint.keep_every() > 0 && checkpoint.every_steps() == 0) {
      Broken("training.checkpoint.keep_every: ", checkpoint.keep_every(), ", but every_steps is 0: there is a checkpoint at ",
             "the end only; nearest legal: every_steps ", checkpoint.keep_every(), ", or keep_every 0");
    }

    const OptimizerConfig& optimizer = training.optimizer();
    const std::string prefix = "training.optimizer.";
    Positive(prefix + "learning_rate", optimizer.learning_rate(), "3e-4");
    Share(prefix + "final_share", optimizer.final_share(), true);
    Share(prefix + "beta1", optimizer.beta1(), false);
    Share(prefix + "beta2", optimizer.beta2(), false);
    Positive(prefix + "epsilon", optimizer.epsilon(), "1e-8");
    Share(prefix + "decay_share", optimizer.decay_share(), true);
    if (Good(prefix + "warmup_steps", "training.steps") && optimizer.warmup_steps() > training.steps()) {
      Broken(prefix, "warmup_steps: ", optimizer.warmup_steps(), ", must be at most training.steps ", training.steps(),
             "; nearest legal: ", training.steps());
    }
  }

  // Widths and tokens of the products that FP8 makes (runtime/ops.h, MatmulFloat8), each rank's share of them.
  void Float8() {
    if (!Good("training.precision", "parallel.tensor") || config_.training().precision() != TrainingConfig::FP8) return;
    constexpr char kRule[] = " must be a multiple of 16 with training.precision FP8; nearest ";
    const ModelConfig& model = config_.model();
    const int64_t tensor = config_.parallel().tensor();
    if (Good("model.hidden") && model.hidden() % 16 != 0) {
      Broken("model.hidden: ", model.hidden(), ",", kRule, "legal: ", NearestMultiples(16, model.hidden()));
    }
    if (Good("model.feed_forward") && model.feed_forward() % tensor == 0 && model.feed_forward() / tensor % 16 != 0) {
      Broken("model.feed_forward: ", model.feed_forward(), " / parallel.tensor ", tensor, " = ",
             model.feed_forward() / tensor, ",", kRule, "legal: ",
             NearestMultiples(Product(16, tensor), model.feed_forward()));
    }
    if (Good("model.heads", "model.kv_heads", "model.head_dim") && model.heads() % tensor == 0 &&
        model.kv_heads() % tensor == 0) {
      const int64_t heads = model.heads() / tensor, kv_heads = model.kv_heads() / tensor;
      const int64_t unit = 16 / std::gcd(16, std::gcd(heads, 2 * kv_heads));
      if (model.head_dim() % unit != 0) {
        Broken("model.head_dim: ", model.head_dim(), " x a rank's ", heads, " heads = ", model.head_dim() * heads,
               ", and x its ", heads, " + 2 x ", kv_heads, " heads, keys and values = ",
               model.head_dim() * (heads + 2 * kv_heads), ", each", kRule, "head_dim: ",
               NearestMultiples(unit, model.head_dim()));
      }
    }
    if (Good("model.sequence_length", "training.micro_batch")) {
      const int64_t micro_batch = config_.training().micro_batch();
      const int64_t tokens = Product(micro_batch, model.sequence_length());
      if (tokens % 16 != 0) {
        Broken("model.sequence_length: ", model.sequence_length(), " x training.micro_batch ", micro_batch, " = ",
               tokens, " tokens,", kRule, "sequence_length: ",
               NearestMultiples(16 / std::gcd(int64_t{16}, micro_batch), model.sequence_length()));
      }
    }
  }

  void Runtime() {
    const RuntimeConfig& runtime = config_.runtime();
    if (!Good("runtime.device", "runtime.messages", "runtime.attention", "runtime.graphs")) return;
    if (runtime.device() != RuntimeConfig::CUDA) {
      const char* rule = ", only with runtime.device CUDA; nearest legal: leave it out";
      if (runtime.attention() != RuntimeConfig::ATTENTION_UNSET) {
        Broken("runtime.attention: ", RuntimeConfig::Attention_Name(runtime.attention()), rule);
      }
      if (runtime.messages() != RuntimeConfig::MESSAGES_UNSET) {
        Broken("runtime.messages: ", RuntimeConfig::Messages_Name(runtime.messages()), rule);
      }
      if (runtime.allow_shared_device()) Broken("runtime.allow_shared_device: true", rule);
      if (runtime.graphs() != RuntimeConfig::GRAPHS_UNSET) {
        Broken("runtime.graphs: ", RuntimeConfig::Graphs_Name(runtime.graphs()), rule);
      }
      return;
    }
    const std::string no_graphs = WhyNoGraphs(config_);
    if (runtime.graphs() == RuntimeConfig::ON && !no_graphs.empty()) {
      Broken("runtime.graphs: ON, but ", no_graphs, "; nearest legal: OFF");
    }
    if (runtime.allow_shared_device() && runtime.messages() == RuntimeConfig::NCCL) {
      Broken("runtime.messages: NCCL, which does not serve ranks that share a GPU (runtime.allow_shared_device); "
             "nearest legal: HOST");
    }
    Attention();
  }

  // On a GPU.
  void Attention() {
    const ModelConfig& model = config_.model();
    if (!Good("model.head_dim", "model.sequence_length", "model.dropout", "training.precision")) return;
    const std::string name = RuntimeConfig::Attention_Name(config_.runtime().attention());
    if (model.head_dim() > 128) {
      Broken("model.head_dim: ", model.head_dim(), ", must be at most 128 with runtime.device CUDA; ",
             "nearest legal: 128");
    } else if (config_.runtime().attention() == RuntimeConfig::OWN) {
      return;
    } else if (model.dropout() > 0) {
      Broken("runtime.attention: ", name, ", must not be cuDNN's with model.dropout ", model.dropout(),
             ", whose mask it does not have; nearest legal: OWN");
    } else if (config_.training().precision() == TrainingConfig::FP32) {
      Broken("runtime.attention: ", name, ", must not be cuDNN's with training.precision FP32; nearest legal: OWN");
    } else if (!CudnnTakesAttention(DType::kBFloat16, model.head_dim(), model.sequence_length())) {
      Broken("runtime.attention: ", name, ", cuDNN's must have a model.head_dim that is a multiple of 8, and a ",
             "model.sequence_length of at least 2, found ", model.head_dim(), " and ", model.sequence_length(),
             "; nearest legal: OWN");
    }
  }

  const RunConfig& config_;
  const int ranks_;
  std::vector<std::string> lines_;
  std::set<std::string, std::less<>> bad_;
};

}  // namespace

std::vector<std::string> Violations(const RunConfig& config, int ranks) {
  CHECK_GE(ranks, 1);
  return Checker(config, ranks).Run();
}

}  // namespace trefoil
