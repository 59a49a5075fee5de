#include "exchange/import_model.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "checkpoint/directory.h"
#include "exchange/config_fields.h"
#include "exchange/folder_file.h"
#include "exchange/gguf.h"
#include "exchange/gguf_tokenizer.h"
#include "exchange/safetensors.h"
#include "exchange/weights_in.h"

namespace trefoil {
namespace {

// The pieces of which a rank writes the elements: neighbours, of about as many elements on each.
std::vector<WeightsIn::Piece> ShareOf(const std::vector<WeightsIn::Piece>& pieces, int rank, int ranks) {
  int64_t all = 0, before = 0;
  for (const WeightsIn::Piece& piece : pieces) all += piece.elements();
  std::vector<WeightsIn::Piece> mine;
  for (const WeightsIn::Piece& piece : pieces) {
    // Its middle says whose it is.
    const int64_t middle = before + piece.elements() / 2;
    if (static_cast<int>(static_cast<double>(middle) / static_cast<double>(all) * ranks) == rank) mine.push_back(piece);
    before += piece.elements();
  }
  return mine;
}

absl::StatusOr<ImportSource> OpenGgufModel(FileSystem& fs, const std::string& path,
                                           const std::vector<std::string>& ignored_fields) {
  ImportSource source;
  source.path = path;
  nlohmann::json metadata;
  TREFOIL_ASSIGN_OR_RETURN(source.tensors, OpenGguf(fs, path, &metadata));
  const auto architecture = metadata.find("general.architecture");
  const std::string name =
      architecture != metadata.end() && architecture->is_string() ? architecture->get<std::string>() : "";
  source.family = FindGgufFamily(name);
  if (source.family == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(path, ": general.architecture: \"", name, "\", which is not known; legal: llama, qwen2, qwen3"));
  }
  nlohmann::json config = nlohmann::json::object();
  for (const auto& [key, value] : metadata.items()) {
    if (key.starts_with(name + ".")) config[key] = value;
  }
  // Older files leave it to the embedding's table.
  if (const ForeignTensor* const table = source.tensors->Find("token_embd.weight");
      table != nullptr && !table->shape.empty()) {
    config.emplace(name + ".vocab_size", static_cast<uint64_t>(table->shape.front()));
  }
  ConfigFields fields = ConfigFields::Of(config, path);
  source.family->read(fields, source.tensors->Find(source.family->tied_head) != nullptr, &source.foreign);
  for (const std::string& field : ignored_fields) fields.Ignore(field);
  TREFOIL_RETURN_IF_ERROR(fields.Finish());
  TREFOIL_ASSIGN_OR_RETURN(GgufTokenizer tokenizer, TokenizerOfGguf(metadata, path));
  source.tokenizer_json = std::move(tokenizer.json);
  source.tokenizer_config = std::move(tokenizer.config);
  return source;
}

}  // namespace

absl::StatusOr<ImportSource> OpenImport(FileSystem& fs, const std::string& path,
                                        const std::vector<std::string>& ignored_fields) {
  if (path.ends_with(".gguf")) return OpenGgufModel(fs, path, ignored_fields);
  ImportSource source;
  source.path = path;
  TREFOIL_ASSIGN_OR_RETURN(const std::string config, FileInFolder(path, "config.json"));
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, config));
  TREFOIL_ASSIGN_OR_RETURN(ConfigFields fields, ConfigFields::Parse(text, config));
  const std::string type = fields.Word("model_type", "");
  source.family = FindForeignFamily(type);
  if (source.family == nullptr) {
    return absl::UnimplementedError(absl::StrCat(config, ": model_type: \"", type, "\", which is not known; legal: ",
                                                 absl::StrJoin(ForeignFamilyNames(), ", ")));
  }
  TREFOIL_ASSIGN_OR_RETURN(source.tensors, OpenSafetensors(fs, path));
  const char* const head = source.family->tied_head;
  source.family->read(fields, head != nullptr && source.tensors->Find(head) != nullptr, &source.foreign);
  ReadCommonFields(fields, &source.foreign);
  for (const std::string& name : ignored_fields) fields.Ignore(name);
  TREFOIL_RETURN_IF_ERROR(fields.Finish());
  return source;
}

absl::Status ImportWeights(FileSystem& fs, Group& all, const ImportSource& source, const ParameterTable& table,
                           const CheckpointStorage& storage, CheckpointContent content,
                           const std::function<void(int64_t done, int64_t total)>& progress, ImportSummary* summary) {
  const absl::StatusOr<WeightsIn> weights =
      WeightsIn::Match(*source.tensors, *source.family, source.foreign.model, table, source.foreign.without_head);
  absl::Status status = weights.status();
  if (!status.ok()) status = absl::Status(status.code(), absl::StrCat(source.path, ": ", status.message()));
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  *summary = {.parameters = 0,
              .tensors = static_cast<int>(source.tensors->tensors().size()),
              .missing = weights->missing(),
              .ignored = weights->ignored()};
  for (const WeightsIn::Piece& piece : weights->pieces()) summary->parameters += piece.elements();

  const std::vector<WeightsIn::Piece> mine = ShareOf(weights->pieces(), all.rank(), all.size());
  int64_t total = 0, done = 0;
  for (const WeightsIn::Piece& piece : mine) total += piece.elements();
  std::vector<float> values;
  const auto part = [&](int i) -> std::vector<ShardedTensor> {
    const WeightsIn::Piece& piece = mine[static_cast<size_t>(i)];
    values.assign(static_cast<size_t>(piece.elements()), 0);
    if (status.ok()) status = weights->Read(piece, values);
    Box box = {.offset = piece.parameter->shape, .extent = piece.parameter->shape};
    for (int dim = 0; dim < box.offset.rank(); ++dim) box.offset[dim] = 0;
    box.offset[0] = piece.first_row;
    box.extent[0] = piece.rows;
    done += piece.elements();
    if (progress != nullptr) progress(done, total);
    return {{.name = piece.parameter->name,
             .dtype = DType::kFloat32,
             .global = piece.parameter->shape,
             .box = box,
             .data = reinterpret_cast<std::byte*>(values.data())}};
  };
  content.parts = static_cast<int>(mine.size());
  content.part = part;
  TREFOIL_RETURN_IF_ERROR(BeginSave(fs, all, storage, content));
  const std::string folder = PartialCheckpointPath(storage.folder, content.step, content.owner);
  absl::StatusOr<RankPart> written = WriteWithCopies(fs, all, storage, folder, content.parts, part);
  if (!status.ok()) written = status;
  return FinishSave(fs, all, storage, content, written);
}

}  // namespace trefoil
