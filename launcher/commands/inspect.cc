#include "launcher/commands/inspect.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/directory.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/inspect_parts.h"
#include "launcher/flags/text.h"
#include "launcher/prepare.h"
#include "model/model_text.h"
#include "runtime/files/folder_lock.h"
#include "training/run.pb.h"
#include "training/saving/resume.h"

DEFINE_bool(verify, false, "Read every byte, and say what is damaged: checksums of a checkpoint and of images, ids of token files.");
DEFINE_int64(document, 0, "Of token files: the document whose beginning is shown, or the first of the records, counted from 0.");
DEFINE_string(with_tokenizer, "", "The tokenizer of token files, tokenizer.json or SentencePiece's .model. Empty: that beside them.");

namespace trefoil {
namespace {

std::string WithoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// "step 100, step 200" and what is not complete.
absl::Status InspectCheckpoints(FileSystem& fs, const std::string& folder, std::ostream& out, std::string* newest) {
  std::vector<std::string> ignored;
  const auto latest = LatestCheckpoint(fs, folder, &ignored);
  if (absl::IsNotFound(latest.status())) {
    InspectLine(out, "checkpoints", "none");
  } else {
    TREFOIL_RETURN_IF_ERROR(latest.status());
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<CheckpointFolder> folders, ListCheckpoints(fs, folder));
    std::string text;
    for (const CheckpointFolder& found : folders) {
      if (found.kind != CheckpointFolder::kComplete) continue;
      absl::StrAppend(&text, text.empty() ? "step " : ", step ", found.step);
    }
    InspectLine(out, "checkpoints", text);
    *newest = *latest;
  }
  for (const std::string& name : ignored) InspectLine(out, "", name + ": not complete, never read");
  return absl::OkStatus();
}

// The last line of metrics.jsonl that is whole, and the last one with a held-out loss.
absl::Status InspectMetrics(FileSystem& fs, const std::string& folder, int64_t steps, bool images, std::ostream& out) {
  const std::string path = folder + "/metrics.jsonl";
  if (!fs.Exists(path)) {
    InspectLine(out, "last step", "none yet");
    return absl::OkStatus();
  }
  std::ifstream file(path);
  nlohmann::json last, held_out;
  for (std::string line; std::getline(file, line);) {
    nlohmann::json parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object() || !parsed.contains("step")) continue;
    if (parsed.contains("held_out_loss") && parsed["held_out_loss"].is_number()) held_out = parsed;
    last = std::move(parsed);
  }
  const auto number = [](const nlohmann::json& json, const char* name, int digits) {
    const auto found = json.find(name);
    if (found == json.end() || !found->is_number()) return std::string("not a number");
    return absl::StrFormat("%.*g", digits, found->get<double>());
  };
  if (!last.is_object()) {
    InspectLine(out, "last step", "none yet");
    return absl::OkStatus();
  }
  InspectLine(out, "last step", absl::StrCat(last["step"].get<int64_t>(), " of ", steps, ", loss ", number(last, "loss", 5),
                                             ", ", number(last, "tokens_per_second", 4),
                                             images ? " patches/s" : " tokens/s"));
  if (held_out.is_object()) {
    InspectLine(out, "held out", absl::StrCat("loss ", number(held_out, "held_out_loss", 5), " after step ",
                                              held_out["step"].get<int64_t>()));
  }
  return absl::OkStatus();
}

absl::Status InspectRun(FileSystem& fs, const InspectOptions& options, const std::string& folder, std::ostream& out) {
  InspectLine(out, "run", folder);
  RunConfig config;
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, folder + "/config.pbtxt"));
  if (!google::protobuf::TextFormat::ParseFromString(text, &config)) {
    return absl::DataLossError(folder + "/config.pbtxt: not a run's config in text format");
  }
  if (config.model().family() == ModelConfig::FAMILY_UNSET || !ModelConfig::Family_IsValid(config.model().family())) {
    return absl::DataLossError(folder + "/config.pbtxt: has no model.family, so no run has written it");
  }
  const SampleSize sample = SampleSizeOf(config.model());
  const auto line = [](const google::protobuf::Message& message) {
    std::string single;
    google::protobuf::TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    printer.PrintToString(message, &single);
    return single;
  };
  InspectLine(out, "model", line(config.model()));
  InspectLine(out, "layout", line(config.parallel()));
  InspectLine(out, "training", absl::StrCat(config.training().steps(), " steps of ",
                                            sample.Of(config.training().global_batch())));
  for (const std::string& train : config.data().train()) InspectLine(out, "data", train);
  const auto owner = FolderOwner(fs, folder);
  InspectLine(out, "in use", owner.ok() ? "by " + *owner : "by nobody");
  TREFOIL_RETURN_IF_ERROR(InspectMetrics(fs, folder, config.training().steps(), sample.images, out));
  std::string newest;
  TREFOIL_RETURN_IF_ERROR(InspectCheckpoints(fs, CheckpointsOfRun(fs, folder), out, &newest));
  const std::string tokenizer = TokenizerIn(fs, folder);
  InspectLine(out, "tokenizer", tokenizer.empty() ? "none" : tokenizer);
  if (!options.text.empty() && tokenizer.empty()) {
    return absl::NotFoundError(absl::StrCat("--text: ", folder, " has no tokenizer to encode it with"));
  }
  if (!options.text.empty()) return InspectTokenizer(fs, options, tokenizer, out);
  if (options.verify && !newest.empty()) return InspectCheckpoint(fs, options, newest, out);
  if (!newest.empty()) {
    InspectLine(out, "more", absl::StrCat("trefoil checkpoint list ", folder));
    InspectLine(out, "", absl::StrCat("trefoil inspect ", newest));
    if (!tokenizer.empty()) InspectLine(out, "", absl::StrCat("trefoil generate --checkpoint=", folder));
  }
  return absl::OkStatus();
}

bool IsImages(const std::string& path) { return absl::EndsWith(path, ".images") || !Glob(path + ".images").empty(); }

// Prefixes of the token files in a folder.
std::vector<std::string> TokenFilesIn(const std::string& folder) {
  std::set<std::string> prefixes;
  for (const char* extension : {".idx", ".bin"}) {
    for (const std::string& path : Glob(folder + "/*" + extension)) prefixes.insert(path.substr(0, path.size() - 4));
  }
  return {prefixes.begin(), prefixes.end()};
}

}  // namespace

absl::Status Inspect(FileSystem& fs, const InspectOptions& options, std::ostream& out) {
  if (options.path.empty()) {
    return absl::InvalidArgumentError(
        "nothing named; give a run's folder, a checkpoint, token or image files (a prefix, a pattern, or their folder) or a tokenizer");
  }
  const std::string path = WithoutSlashes(options.path);
  if (fs.Exists(path + "/manifest.json")) return InspectCheckpoint(fs, options, path, out);
  if (fs.Exists(path + "/config.pbtxt")) return InspectRun(fs, options, path, out);
  if (absl::EndsWith(path, ".model") || absl::EndsWith(path, ".json")) return InspectTokenizer(fs, options, path, out);
  const bool is_folder = fs.Exists(path) && fs.List(path).ok();
  if (!is_folder) {
    return IsImages(path) ? InspectImages(fs, options, {path}, out) : InspectTokenFiles(fs, options, {path}, out);
  }
  std::string newest;
  if (LatestCheckpoint(fs, path).ok()) return InspectCheckpoints(fs, path, out, &newest);
  const std::vector<std::string> prefixes = TokenFilesIn(path);
  if (!prefixes.empty()) return InspectTokenFiles(fs, options, prefixes, out);
  if (IsImages(path + "/*")) return InspectImages(fs, options, {path + "/*"}, out);
  if (!TokenizerIn(fs, path).empty()) return InspectTokenizer(fs, options, TokenizerIn(fs, path), out);
  return absl::NotFoundError(path + ": a folder with nothing known in it: no config.pbtxt of a run, no manifest.json of a "
                                    "checkpoint, no step-... of checkpoints, no .idx of token files, no .images, no tokenizer.json or "
                                    "tokenizer.model");
}

int InspectMain(int argc, char** argv) {
  if (argc > 2) {
    return Fail("inspect", absl::InvalidArgumentError(absl::StrCat("one path at a time, found ", argc - 1, ": ", argv[1], " ",
                                                                   argv[2], " ...; quote patterns")),
                /*speak=*/true);
  }
  const InspectOptions options = {.path = argc > 1 ? argv[1] : "",
                                  .verify = FLAGS_verify,
                                  .document = FLAGS_document,
                                  .text = FLAGS_text,
                                  .tokenizer = FLAGS_with_tokenizer};
  const absl::Status status = Inspect(FileSystem::Posix(), options, std::cout);
  std::cout << std::flush;
  return status.ok() ? 0 : Fail("inspect", status, /*speak=*/true);
}

}  // namespace trefoil
