#include "launcher/commands/commands.h"

#include <gflags/gflags.h>

#include <iostream>
#include <memory>
#include <span>
#include <vector>

#include "data/tokens/text_stream.h"
#include "launcher/cluster/machine.h"
#include "launcher/flags/tokens.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "launcher/trained_model.h"
#include "model/families/recipe.h"
#include "parallel/collectives/world.h"
#include "runtime/host/cpu_features.h"
#include "training/inference/sampling.h"

DEFINE_string(prompt, "", "Text to continue. Empty: the model starts a document.");
DEFINE_double(temperature, 0.8, "Divides the logits: lower is safer, 0 always takes the likeliest token.");
DEFINE_int32(top_k, 0, "Choose among the k likeliest tokens only. 0: all.");
DEFINE_double(top_p, 0.95, "Choose among the likeliest tokens that together have this probability. 1: all.");
DEFINE_uint64(seed, 1, "The same seed gives the same text.");

namespace trefoil {
namespace {

absl::Status CheckFlags() {
  if (FLAGS_tokens < 1) {
    return absl::InvalidArgumentError("--tokens: " + std::to_string(FLAGS_tokens) + ", must be at least 1");
  }
  if (!(FLAGS_temperature >= 0)) {
    return absl::InvalidArgumentError("--temperature: " + std::to_string(FLAGS_temperature) + ", must be 0 or more");
  }
  if (FLAGS_top_k < 0) {
    return absl::InvalidArgumentError("--top_k: " + std::to_string(FLAGS_top_k) + ", must be 0 (all) or more");
  }
  if (!(FLAGS_top_p > 0 && FLAGS_top_p <= 1)) {
    return absl::InvalidArgumentError("--top_p: " + std::to_string(FLAGS_top_p) + ", must be above 0 and at most 1");
  }
  for (const char* flag : {"top_k", "top_p"}) {
    if (FLAGS_temperature > 0 || !IsGiven(flag)) continue;
    return absl::InvalidArgumentError(std::string("--") + flag +
                                      ": chooses among tokens, and --temperature=0 takes the likeliest; leave one out");
  }
  return absl::OkStatus();
}

absl::Status CheckContinues(const std::string& path, const ModelConfig& model) {
  const Recipe::Structure structure = RecipeOf(model).structure;
  const bool from_left = structure == Recipe::Structure::kDecoder || structure == Recipe::Structure::kRecurrent;
  if (from_left && model.head() == ModelConfig::TOKENS) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--checkpoint: " + path + " is of a " + ModelConfig::Family_Name(model.family()) + " with head " +
      ModelConfig::Head_Name(model.head()) +
      ", which does not continue text; use `trefoil predict`, or a model that does: GPT, LLAMA, RNN, LSTM");
}

absl::Status Generate(FileSystem& fs, World& world) {
  TREFOIL_RETURN_IF_ERROR(CheckFlags());
  TREFOIL_RETURN_IF_ERROR(CheckCpuLevel());
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), /*ranks_on_host=*/1);
  TREFOIL_ASSIGN_OR_RETURN(TrainedModel writer, LoadTrainedModel(fs, "generate", CheckContinues, world, *device));
  Tokenizer& tokenizer = *writer.tokenizer;

  // A model has seen each document begin after the end of the one before.
  std::vector<int32_t> ids = {tokenizer.end_of_text()};
  const std::vector<int32_t> prompt = tokenizer.Encode(FLAGS_prompt);
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  if (const auto context = static_cast<size_t>(writer.model().sequence_length()); ids.size() > context) {
    std::cerr << "trefoil generate: note: the prompt has " << prompt.size() << " tokens, the model's context "
              << context << ": only the last " << context << " of them count\n";
  }
  const Sampling sampling = {.temperature = static_cast<float>(FLAGS_temperature),
                             .top_k = FLAGS_top_k,
                             .top_p = static_cast<float>(FLAGS_top_p)};
  TextStream text(tokenizer, prompt);
  std::cout << FLAGS_prompt << std::flush;
  for (int i = 0; i < FLAGS_tokens; ++i) {
    const Prefix prefix = {.ids = ids};
    const Rows rows = writer.predictor->Next(std::span(&prefix, 1));
    // A model may have room for more ids than there are.
    const std::span<const float> known = rows[0].first(static_cast<size_t>(tokenizer.vocabulary()));
    const int32_t next = ChooseToken(known, sampling, FLAGS_seed, static_cast<uint64_t>(i));
    if (next == tokenizer.end_of_text()) break;
    ids.push_back(next);
    std::cout << text.Add(next) << std::flush;
  }
  std::cout << text.End() << std::endl;
  return absl::OkStatus();
}

}  // namespace

int GenerateMain(int, char**) {
  int exit_status = 0;
  // A world of one rank, in this process.
  RunRanksAsThreads(1, [&](World& world) {
    const absl::Status status = Generate(FileSystem::Posix(), world);
    if (!status.ok()) exit_status = Fail("generate", status, /*speak=*/true);
  });
  return exit_status;
}

}  // namespace trefoil
