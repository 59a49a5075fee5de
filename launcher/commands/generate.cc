#include "launcher/commands/commands.h"

#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <iostream>
#include <optional>
#include <utility>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "data/text_stream.h"
#include "data/tokenizer.h"
#include "launcher/cluster/machine.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "model/families/recipe.h"
#include "parallel/collectives/world.h"
#include "runtime/host/cpu_features.h"
#include "training/generator.h"
#include "training/identity.h"
#include "training/saving/newest_checkpoint.h"

DEFINE_string(checkpoint, "", "A run's folder (its newest checkpoint that is whole is taken) or one checkpoint's folder.");
DEFINE_string(prompt, "", "Text to continue. Empty: the model starts a document.");
DEFINE_string(tokenizer_model, "", "The tokenizer's model file. Empty: tokenizer.model in the run's folder.");
DEFINE_int32(tokens, 200, "Tokens to generate at most; the end of the document ends the text.");
DEFINE_double(temperature, 0.8, "Divides the logits: lower is safer, 0 always takes the likeliest token.");
DEFINE_int32(top_k, 0, "Choose among the k likeliest tokens only. 0: all.");
DEFINE_double(top_p, 0.95, "Choose among the likeliest tokens that together have this probability. 1: all.");
DEFINE_uint64(seed, 1, "The same seed gives the same text.");

namespace trefoil {
namespace {

absl::Status CheckFlags() {
  if (FLAGS_checkpoint.empty()) return absl::InvalidArgumentError("--checkpoint: missing; give a run's folder");
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

// The run's tokenizer, or the one that it had when the checkpoint was saved, of that hash (training/start.h). Empty: unknown.
absl::StatusOr<std::string> TokenizerPath(FileSystem& fs, const CheckpointPlace& place, const std::string& hash) {
  if (!FLAGS_tokenizer_model.empty()) return FLAGS_tokenizer_model;
  const std::string kept = place.run + "/tokenizer-" + hash + ".model";
  if (!hash.empty() && fs.Exists(kept)) return kept;
  const std::string path = place.run + "/tokenizer.model";
  if (fs.Exists(path)) return path;
  return absl::NotFoundError("--tokenizer_model: missing, and " + path + " does not exist: the run named no data.tokenizer");
}

// Another one would give the model's ids another meaning.
absl::Status CheckTokenizer(FileSystem& fs, const std::string& path, const std::string& hash) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, path));
  if (hash.empty() || TokenizerHash(content) == hash) return absl::OkStatus();
  return absl::FailedPreconditionError(path + " (" + TokenizerHash(content) +
                                       ") is another tokenizer than the checkpoint was trained with (" + hash +
                                       "); give that with --tokenizer_model");
}

// The tokenizer of a checkpoint of the place, that the text is to be made with.
absl::StatusOr<Tokenizer> OpenTokenizer(FileSystem& fs, const CheckpointPlace& place, const std::string& hash,
                                        const ModelConfig& model) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string path, TokenizerPath(fs, place, hash));
  TREFOIL_RETURN_IF_ERROR(CheckTokenizer(fs, path, hash));
  TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(fs, path));
  if (tokenizer.vocabulary() > model.vocabulary()) {
    return absl::InvalidArgumentError(path + " has " + std::to_string(tokenizer.vocabulary()) +
                                      " tokens, the checkpoint's model only " + std::to_string(model.vocabulary()));
  }
  return tokenizer;
}

// What a checkpoint gives.
struct Writer {
  ModelConfig model;
  std::optional<Tokenizer> tokenizer;
  std::unique_ptr<Generator> generator;
};

absl::Status Load(FileSystem& fs, const CheckpointPlace& place, const std::string& path, World& world,
                  Device& device, Writer* writer) {
  *writer = {};
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, path));
  TrainerState state;
  if (!google::protobuf::TextFormat::ParseFromString(reader.model(), &writer->model) ||
      !google::protobuf::TextFormat::ParseFromString(reader.trainer_state(), &state)) {
    return absl::DataLossError(path + ": its model description is not readable");
  }
  if (RecipeOf(writer->model).structure != Recipe::Structure::kDecoder) {
    return absl::InvalidArgumentError("--checkpoint: " + path + " is of a " +
                                      ModelConfig::Family_Name(writer->model.family()) +
                                      ", must be of a decoder to continue text; legal: GPT, LLAMA");
  }
  absl::StatusOr<Tokenizer> tokenizer = OpenTokenizer(fs, place, state.tokenizer(), writer->model);
  // A tokenizer that is missing does not mean that the checkpoint is damaged.
  if (!tokenizer.ok()) return absl::FailedPreconditionError(tokenizer.status().message());
  writer->tokenizer = *std::move(tokenizer);
  writer->generator = std::make_unique<Generator>(writer->model, world, device);
  return writer->generator->Load(fs, path);
}

// The newest that is whole, if there are several to choose from. Warnings go to standard error, away from the text.
absl::Status LoadNewest(FileSystem& fs, const CheckpointPlace& place, World& world, Device& device, Writer* writer) {
  const auto load = [&](const std::string& path) { return Load(fs, place, path, world, device, writer); };
  if (place.checkpoints.size() == 1) return load(place.checkpoints.front());
  const auto warn = [](const std::string& text) { std::cerr << "trefoil generate: " << text << std::endl; };
  std::vector<std::string> damaged;
  TREFOIL_ASSIGN_OR_RETURN(const std::string path, FirstWhole(place.checkpoints, load, &damaged, warn));
  if (!damaged.empty()) warn("WARNING: going back to " + path + ", the newest that is whole.");
  return absl::OkStatus();
}

absl::Status Generate(FileSystem& fs, World& world) {
  TREFOIL_RETURN_IF_ERROR(CheckFlags());
  TREFOIL_RETURN_IF_ERROR(CheckCpuLevel());
  const absl::StatusOr<CheckpointPlace> place = FindCheckpoints(fs, FLAGS_checkpoint);
  if (!place.ok()) {
    return absl::Status(place.status().code(), "--checkpoint: " + std::string(place.status().message()));
  }
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), /*ranks_on_host=*/1);
  Writer writer;
  TREFOIL_RETURN_IF_ERROR(LoadNewest(fs, *place, world, *device, &writer));
  Tokenizer& tokenizer = *writer.tokenizer;

  // A model has seen each document begin after the end of the one before.
  std::vector<int32_t> ids = {tokenizer.end_of_text()};
  const std::vector<int32_t> prompt = tokenizer.Encode(FLAGS_prompt);
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  if (const auto context = static_cast<size_t>(writer.model.sequence_length()); ids.size() > context) {
    std::cerr << "trefoil generate: note: the prompt has " << prompt.size() << " tokens, the model's context "
              << context << ": only the last " << context << " of them count\n";
  }
  const Sampling sampling = {.temperature = static_cast<float>(FLAGS_temperature),
                             .top_k = FLAGS_top_k,
                             .top_p = static_cast<float>(FLAGS_top_p)};
  TextStream text(tokenizer, prompt);
  std::cout << FLAGS_prompt << std::flush;
  for (int i = 0; i < FLAGS_tokens; ++i) {
    std::vector<float> logits = writer.generator->NextLogits(ids);
    logits.resize(static_cast<size_t>(tokenizer.vocabulary()));  // a model may have room for more ids than there are
    const int32_t next = ChooseToken(logits, sampling, FLAGS_seed, static_cast<uint64_t>(i));
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
