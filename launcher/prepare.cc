#include "launcher/prepare.h"

#include <gflags/gflags.h>

#include <iostream>
#include <memory>

#include "data/tokenizer.h"
#include "launcher/config.h"
#include "runtime/cpu_features.h"
#include "runtime/device.h"
#include "training/validate.h"

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

// data.tokenizer where it is left open: tokenizer.model beside the first training files, if it is there.
std::string TokenizerBeside(FileSystem& fs, const DataConfig& data) {
  if (data.train().empty()) return "";
  const std::string& first = data.train(0);
  const size_t slash = first.rfind('/');
  const std::string path = (slash == std::string::npos ? "" : first.substr(0, slash + 1)) + "tokenizer.model";
  return fs.Exists(path) ? path : "";
}

absl::Status UseTokenizer(FileSystem& fs, RunConfig* config) {
  DataConfig* data = config->mutable_data();
  if (data->tokenizer().empty()) data->set_tokenizer(TokenizerBeside(fs, *data));
  if (data->tokenizer().empty()) return absl::OkStatus();
  TREFOIL_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(fs, data->tokenizer()));
  const int64_t size = tokenizer.vocabulary();
  ModelConfig* model = config->mutable_model();
  if (model->vocabulary() == 0) model->set_vocabulary(static_cast<int32_t>(size));
  if (model->vocabulary() < size) {
    return absl::InvalidArgumentError("model.vocabulary: " + std::to_string(model->vocabulary()) +
                                      ", smaller than the tokenizer's (" + data->tokenizer() + "); at least " +
                                      std::to_string(size));
  }
  return absl::OkStatus();
}

// What a run needs only to be trained.
void LeaveOutData(RunConfig* config) {
  if (config->model().vocabulary() == 0) config->mutable_model()->set_vocabulary(50257);
  if (config->folder().empty()) config->set_folder("none");
  if (config->data().train().empty()) config->mutable_data()->add_train("none");
  if (config->training().steps() == 0) config->mutable_training()->set_steps(1);
}

// Every GPU that the CUDA device takes has it.
bool MultipliesBFloat16(const RunConfig& config) {
  return config.runtime().device() == RuntimeConfig::CUDA || CpuHasBFloat16();
}

absl::StatusOr<RunConfig> FillAndCheck(RunConfig config, int ranks, bool bf16_hardware) {
  FillDefaults(&config, ranks, bf16_hardware);
  const std::vector<std::string> violations = Violations(config, ranks);
  if (violations.empty()) return config;
  std::string message = violations.size() == 1 ? "the config is not legal:"
                                               : "the config breaks " + std::to_string(violations.size()) + " rules:";
  for (const std::string& violation : violations) message += "\n  " + violation;
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::StatusOr<RunConfig> PrepareConfig(FileSystem& fs, const std::vector<std::string>& sets, int ranks) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  TREFOIL_RETURN_IF_ERROR(UseTokenizer(fs, &config));
  const bool bf16_hardware = MultipliesBFloat16(config);
  return FillAndCheck(std::move(config), ranks, bf16_hardware);
}

absl::StatusOr<RunConfig> PrepareConfigWithoutData(FileSystem& fs, const std::vector<std::string>& sets, int ranks) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  LeaveOutData(&config);
  const bool bf16_hardware = MultipliesBFloat16(config);
  return FillAndCheck(std::move(config), ranks, bf16_hardware);
}

absl::StatusOr<RunConfig> PrepareConfigToPlan(FileSystem& fs, const std::vector<std::string>& sets, bool bf16_hardware,
                                              int* ranks) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  LeaveOutData(&config);
  if (*ranks == 0) {
    *ranks = 1;
    const ParallelConfig& parallel = config.parallel();
    for (const int size : {parallel.tensor(), parallel.pipeline(), parallel.data()}) {
      if (size > 1) *ranks = static_cast<int>(std::min<int64_t>(int64_t{*ranks} * size, 1 << 20));
    }
  }
  return FillAndCheck(std::move(config), *ranks, bf16_hardware);
}

absl::StatusOr<RunConfig> PrepareConfigToSearch(FileSystem& fs, const std::vector<std::string>& sets,
                                                bool bf16_hardware, const std::set<std::string>& pinned) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, Read(fs, sets));
  LeaveOutData(&config);
  const ParallelConfig given = config.parallel();
  const int micro_batch = config.training().micro_batch();
  // First as one rank, so that all but the layout is checked.
  config.clear_parallel();
  config.mutable_training()->set_micro_batch(1);
  TREFOIL_ASSIGN_OR_RETURN(config, FillAndCheck(std::move(config), /*ranks=*/1, bf16_hardware));
  *config.mutable_parallel() = given;
  if (pinned.contains("micro_batch")) config.mutable_training()->set_micro_batch(micro_batch);
  return config;
}

absl::Status AgreeOnConfig(World& world, const absl::Status& status) {
  const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1);
  return world.NewGroupOfAll(*device)->Agree(status);
}

int Fail(const char* command, const absl::Status& status, bool speak) {
  if (speak) std::cerr << "trefoil " << command << ": " << status.message() << std::endl;
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace trefoil
