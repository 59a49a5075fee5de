#include "launcher/prepare.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <iostream>
#include <memory>

#include "data/tokens/loader.h"
#include "data/tokens/tokenizer.h"
#include "launcher/cluster/product_choice.h"
#include "launcher/config/config.h"
#include "launcher/given_flags.h"
#include "model/model.h"
#include "parallel/same_on_ranks.h"
#include "runtime/device.h"
#include "runtime/files/crc32c.h"
#include "runtime/host/cpu_features.h"
#include "runtime/number_text.h"
#include "runtime/version.h"
#include "training/config/idle_options.h"
#include "training/config/validate.h"
#include "training/tasks/task_data.h"
#include "training/tasks/tasks.h"

DEFINE_string(config, "", "The run's config: a file in protobuf text format, or the name of a preset (trefoil presets).");

namespace trefoil {
namespace {

absl::StatusOr<RunConfig> Read(FileSystem& fs, const std::vector<std::string>& sets) {
  TREFOIL_RETURN_IF_ERROR(CheckCpuLevel());
  if (FLAGS_config.empty()) {
    return absl::InvalidArgumentError(
        "--config: missing; give a file or a preset's name, such as --config=llama_60m (trefoil presets lists them)");
  }
  return ReadConfig(fs, FLAGS_config, sets);
}

// data.tokenizer where it is left open: the one beside the first training files, if it is there.
std::string TokenizerBeside(FileSystem& fs, const DataConfig& data) {
  if (data.train().empty()) return "";
  const std::string& first = data.train(0);
  const size_t slash = first.rfind('/');
  return TokenizerIn(fs, slash == std::string::npos ? "" : slash == 0 ? "/" : first.substr(0, slash));
}

// Why the data do not say their vocabulary: a mistake in data.train is to be told before that.
absl::Status CheckFirstTokenFile(const DataConfig& data) {
  if (data.train().empty()) return absl::OkStatus();
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> prefixes,
                           MatchTokenFiles({data.train().begin(), data.train().end()}));
  return TokenFile::Open(prefixes.front()).status();
}

// Finds the tokenizer, and takes the vocabulary from it if that is left open. The tokenizer's size, 0 if there is none.
absl::StatusOr<int64_t> UseTokenizer(FileSystem& fs, RunConfig* config) {
  DataConfig* data = config->mutable_data();
  ModelConfig* model = config->mutable_model();
  if (data->tokenizer().empty()) data->set_tokenizer(TokenizerBeside(fs, *data));
  if (data->tokenizer().empty()) {
    if (model->vocabulary() == 0) TREFOIL_RETURN_IF_ERROR(CheckFirstTokenFile(*data));
    return 0;
  }
  TREFOIL_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(fs, data->tokenizer()));
  FillTask(config);
  const int64_t pieces = tokenizer.vocabulary(), size = pieces + SymbolsOf(*config);
  TaskConfig* task = config->mutable_task();
  if (SymbolsOf(*config) > 0) task->set_first_symbol(static_cast<int32_t>(pieces));
  task->set_end_of_text(tokenizer.end_of_text());
  if (model->vocabulary() == 0) model->set_vocabulary(static_cast<int32_t>(size));
  if (model->vocabulary() < size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model.vocabulary: ", model->vocabulary(), ", smaller than the tokenizer's (", data->tokenizer(), ")",
        size > pieces ? absl::StrCat(" and the ", size - pieces, " symbols of the task") : "", "; at least ", size));
  }
  TREFOIL_RETURN_IF_ERROR(CheckTokenizerOfData(*config, tokenizer.checksum()));
  return size;
}

// Names and number of the classes, where they are left open.
absl::Status NameClasses(RunConfig* config) {
  FillTask(config);
  ModelConfig* model = config->mutable_model();
  TaskConfig* task = config->mutable_task();
  if (model->head() != ModelConfig::CLASSES || config->data().train().empty()) return absl::OkStatus();
  if (model->classes() != 0 && !task->class_names().empty()) return absl::OkStatus();
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> classes, ClassesOfData(config->data(), task->kind()));
  if (model->classes() == 0) model->set_classes(static_cast<int32_t>(classes.size()));
  if (task->class_names().empty()) task->mutable_class_names()->Assign(classes.begin(), classes.end());
  return absl::OkStatus();
}

bool ReadsImages(const ModelConfig& model) { return model.family() == ModelConfig::VIT; }

// A preset's vocabulary may be far above that of one's own tokenizer. Empty: it is not.
std::string SpareVocabulary(const ModelConfig& model, int64_t tokenizer_size) {
  constexpr int64_t kPadding = 256;  // sizes are often rounded up, by less than this
  if (tokenizer_size == 0 || model.vocabulary() < tokenizer_size + kPadding) return "";
  ModelConfig fitting = model;
  fitting.set_vocabulary(static_cast<int32_t>(tokenizer_size));
  const int64_t all = DeclareModel(model).elements(), used = DeclareModel(fitting).elements();
  const double flops = ModelFlops(model);
  const double needed = ModelFlops(fitting);
  return absl::StrFormat("model.vocabulary: %d, but the tokenizer has %d pieces: %s of %s parameters are for ids that never "
                         "occur, and a step takes %.2f times the FLOPs; --set model.vocabulary=%d leaves them out",
                         model.vocabulary(), tokenizer_size, ShortCount(static_cast<double>(all - used)),
                         ShortCount(static_cast<double>(all)), flops / needed, tokenizer_size);
}

// What a run needs only to be trained.
void LeaveOutData(RunConfig* config) {
  if (config->model().vocabulary() == 0 && !ReadsImages(config->model())) {
    config->mutable_model()->set_vocabulary(50257);
  }
  FillTask(config);
  if (config->model().head() == ModelConfig::CLASSES && config->model().classes() == 0) {
    config->mutable_model()->set_classes(2);
  }
  if (config->folder().empty()) config->set_folder("none");
  if (config->data().train().empty()) config->mutable_data()->add_train("none");
  if (config->training().steps() == 0) config->mutable_training()->set_steps(1);
}

// What the machine says of precision and products. This CPU is measured only if they are left open.
struct Bf16Choice {
  Bf16Defaults defaults;
  std::string speeds;  // for people; empty: not measured
};
Bf16Choice ChooseBf16(FileSystem& fs, const RunConfig& config, bool gpus) {
  if (gpus || config.runtime().device() == RuntimeConfig::CUDA) {
    return {.defaults = {.pays = true, .products = RuntimeConfig::BF16_PRODUCTS_UNSET}, .speeds = ""};
  }
  const TrainingConfig::Precision precision = config.training().precision();
  const bool open = precision == TrainingConfig::PRECISION_UNSET ||
                    (precision != TrainingConfig::FP32 &&
                     config.runtime().bf16_products() == RuntimeConfig::BF16_PRODUCTS_UNSET);
  if (!open) return {};
  const KnownSpeeds known = SpeedsOfThisCpu(fs, CacheFolder());
  return {.defaults = DefaultsBy(known.speeds), .speeds = SpeedsText(known)};
}

// Of a run on CPUs by their bf16 instructions, which must then be the same on all ranks: the last bits of the products
// depend on them.
bool UsesBf16Instructions(const RunConfig& config) {
  return config.runtime().device() != RuntimeConfig::CUDA && config.training().precision() != TrainingConfig::FP32 &&
         config.runtime().bf16_products() == RuntimeConfig::NATIVE;
}

absl::StatusOr<RunConfig> FillAndCheck(RunConfig config, int ranks, const Bf16Defaults& bf16) {
  FillDefaults(&config, ranks, bf16);
  std::vector<std::string> violations = Violations(config, ranks);
  if (UsesBf16Instructions(config) && !CpuHasBFloat16()) {
    violations.push_back(absl::StrCat("runtime.bf16_products: NATIVE, but this CPU has no bf16 instructions (",
                                      Name(UsedCpuLevel()), "); nearest legal: FLOAT32"));
  }
  if (violations.empty()) return config;
  std::string message = violations.size() == 1 ? "the config is not legal:"
                                               : "the config breaks " + std::to_string(violations.size()) + " rules:";
  for (const std::string& violation : violations) message += "\n  " + violation;
  return absl::InvalidArgumentError(message);
}

// For the summary: "bf16 by AMX (SPEEDS)".
std::string ProductsLine(const RunConfig& config, const std::string& speeds) {
  if (config.runtime().device() == RuntimeConfig::CUDA) return "";
  if (config.training().precision() == TrainingConfig::FP32) return speeds.empty() ? "" : absl::StrCat("float32 (", speeds, ")");
  const std::string by = absl::StrCat("bf16 by ", ProductsText(config.runtime().bf16_products()));
  return speeds.empty() ? by : absl::StrCat(by, " (", speeds, ")");
}

// On rank 0.
absl::StatusOr<Prepared> Prepare(FileSystem& fs, RunConfig given, RunTokens tokens, int ranks) {
  Prepared prepared;
  int64_t tokenizer_size = 0;
  RunConfig config = given;
  if (tokens == RunTokens::kData) {
    if (!ReadsImages(config.model())) {
      TREFOIL_ASSIGN_OR_RETURN(tokenizer_size, UseTokenizer(fs, &config));
    }
    TREFOIL_RETURN_IF_ERROR(NameClasses(&config));
  } else {
    LeaveOutData(&config);
  }
  const Bf16Choice bf16 = ChooseBf16(fs, config, /*gpus=*/false);
  TREFOIL_ASSIGN_OR_RETURN(prepared.config, FillAndCheck(std::move(config), ranks, bf16.defaults));
  prepared.products = ProductsLine(prepared.config, bf16.speeds);
  if (tokens == RunTokens::kData) {
    prepared.notes = IdleOptions(given, prepared.config);
    const std::string spare = SpareVocabulary(prepared.config.model(), tokenizer_size);
    if (!spare.empty()) prepared.notes.push_back(spare);
  }
  return prepared;
}

// On rank 0, a note of the first rank whose own config file says something else than its own, which all follow; empty if
// none does.
std::string OtherConfigFile(Group& all, const absl::StatusOr<RunConfig>& own) {
  const std::vector<std::string> checksums =
      all.GatherStrings(own.ok() ? std::to_string(Crc32c(own->SerializeAsString())) : "");
  for (size_t rank = 1; rank < checksums.size(); ++rank) {
    if (checksums[rank] == checksums[0]) continue;
    return absl::StrCat("--config=", FLAGS_config, ": ", all.membership().NameOf(static_cast<int>(rank)),
                        checksums[rank].empty() ? " cannot read it" : " reads other values in it",
                        "; every rank runs what rank 0 reads");
  }
  return "";
}

}  // namespace

absl::StatusOr<Prepared> PrepareOnRanks(FileSystem& fs, const std::vector<std::string>& sets, RunTokens tokens,
                                        World& world) {
  Group& all = world.all();
  std::vector<std::string> words;
  for (const std::string& set : sets) words.push_back("--set " + set);
  std::vector<RankFact> facts = CommandLineFacts(words);
  facts.insert(facts.begin(), {"program", VersionText()});
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, facts));
  TREFOIL_RETURN_IF_ERROR(all.Agree(CheckCpuLevel()));

  const absl::StatusOr<RunConfig> own = Read(fs, sets);
  absl::StatusOr<Prepared> prepared = Prepared();
  if (world.rank() == 0) prepared = own.ok() ? Prepare(fs, *own, tokens, world.size()) : own.status();
  TREFOIL_RETURN_IF_ERROR(all.Agree(prepared.status()));
  const std::string text = all.BroadcastString(world.rank() == 0 ? prepared->config.SerializeAsString() : "");
  CHECK(prepared->config.ParseFromString(text));
  const std::string other = OtherConfigFile(all, own);
  if (!other.empty()) prepared->notes.push_back(other);
  const RunConfig& config = prepared->config;
  if (UsesBf16Instructions(config)) {
    TREFOIL_RETURN_IF_ERROR(
        CheckSameOnRanks(all, {{"products of bf16", ProductsText(RuntimeConfig::NATIVE)}},
                         "or give runtime.bf16_products: FLOAT32, whose numbers are the same on all CPUs"));
  }
  return prepared;
}

absl::StatusOr<RunConfig> PrepareConfigToPlan(FileSystem& fs, const std::vector<std::string>& sets, bool gpus, int* ranks) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  LeaveOutData(&config);
  if (*ranks == 0) {
    *ranks = 1;
    for (const AxisEntry& axis : Axes()) {
      const int size = (config.parallel().*axis.size)();
      if (size > 1) *ranks = static_cast<int>(std::min<int64_t>(int64_t{*ranks} * size, 1 << 20));
    }
  }
  const Bf16Defaults bf16 = ChooseBf16(fs, config, gpus).defaults;
  return FillAndCheck(std::move(config), *ranks, bf16);
}

absl::StatusOr<RunConfig> PrepareConfigToSearch(FileSystem& fs, const std::vector<std::string>& sets, bool gpus,
                                                const std::set<std::string>& pinned) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  LeaveOutData(&config);
  const ParallelConfig given = config.parallel();
  const int micro_batch = config.training().micro_batch();
  // First as one rank, so that all but the layout is checked.
  config.clear_parallel();
  config.mutable_training()->set_micro_batch(1);
  const Bf16Defaults bf16 = ChooseBf16(fs, config, gpus).defaults;
  TREFOIL_ASSIGN_OR_RETURN(config, FillAndCheck(std::move(config), /*ranks=*/1, bf16));
  *config.mutable_parallel() = given;
  if (pinned.contains("micro_batch")) config.mutable_training()->set_micro_batch(micro_batch);
  return config;
}

void SetTimeLimits(World& world, const RuntimeConfig& runtime) {
  world.patience().set_limits({.startup = static_cast<double>(runtime.startup_timeout_seconds()),
                               .step = static_cast<double>(runtime.timeout_seconds()),
                               .save = static_cast<double>(runtime.save_timeout_seconds())});
}

int Fail(const char* command, const absl::Status& status, bool speak) {
  if (speak) std::cerr << "trefoil " << command << ": " << status.message() << std::endl;
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace trefoil
