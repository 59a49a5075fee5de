#include "exchange/export_model.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "exchange/name_map.h"
#include "exchange/number_formats.h"
#include "exchange/safetensors.h"
#include "model/model.h"

namespace trefoil {
namespace {

constexpr int64_t kPieceElements = 1 << 24;

// Tensors of one file.
struct ShardPlan {
  std::vector<const NamedTensor*> tensors;
  std::vector<SafetensorsEntry> entries;
  int64_t bytes = 0;
};

std::vector<ShardPlan> PlanShards(const std::vector<NamedTensor>& tensors, const ExportOptions& options) {
  std::vector<ShardPlan> shards(1);
  for (const NamedTensor& tensor : tensors) {
    const SafetensorsEntry entry = {tensor.name, options.dtype, tensor.shape};
    if (!shards.back().tensors.empty() && shards.back().bytes + entry.bytes() > options.shard_bytes)
      shards.emplace_back();
    shards.back().tensors.push_back(&tensor);
    shards.back().entries.push_back(entry);
    shards.back().bytes += entry.bytes();
  }
  return shards;
}

// Rows of a parameter.
absl::Status ReadRows(const CheckpointReader& reader, const Parameter& parameter, int64_t first, int64_t rows,
                      float* out) {
  ShardedTensor target = {.name = parameter.name,
                          .dtype = DType::kFloat32,
                          .global = parameter.shape,
                          .box = {.offset = parameter.shape, .extent = parameter.shape},
                          .data = reinterpret_cast<std::byte*>(out)};
  for (int dim = 0; dim < parameter.shape.rank(); ++dim) target.box.offset[dim] = 0;
  target.box.offset[0] = first;
  target.box.extent[0] = rows;
  return reader.Read(target);
}

std::vector<std::byte> Encode(const std::vector<float>& values, const std::string& dtype) {
  const auto count = values.size();
  if (dtype == "F32") {
    const auto bytes = std::as_bytes(std::span(values));
    return {bytes.begin(), bytes.end()};
  }
  std::vector<uint16_t> halves(count);
  const bool bf16 = dtype == "BF16";
  CHECK(bf16 || dtype == "F16") << dtype;
  for (size_t i = 0; i < count; ++i) halves[i] = bf16 ? BFloat16(values[i]).bits : FloatToHalf(values[i]);
  const auto bytes = std::as_bytes(std::span(halves));
  return {bytes.begin(), bytes.end()};
}

class ShardWriter {
 public:
  ShardWriter(const CheckpointReader& reader, const ExportOptions& options,
              const std::function<void(int64_t elements)>& wrote)
      : reader_(reader), options_(options), wrote_(wrote) {}

  absl::Status Write(FileSystem& fs, const std::string& path, const ShardPlan& shard) {
    TREFOIL_ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(fs, path, shard.entries));
    for (const NamedTensor* tensor : shard.tensors) {
      TREFOIL_RETURN_IF_ERROR(tensor->arrangement == Arrangement::kTransposed ? AppendTransposed(*tensor, *writer)
                                                                              : Append(*tensor, *writer));
    }
    return writer->Close();
  }

 private:
  absl::Status Append(const NamedTensor& tensor, SafetensorsWriter& writer) {
    CHECK(tensor.arrangement == Arrangement::kSame) << tensor.name;
    const int64_t columns = tensor.inputs();
    std::vector<float> values;
    for (const Parameter* parameter : tensor.parameters) {
      const int64_t rows = parameter->shape[0], at_once = std::clamp<int64_t>(kPieceElements / columns, 1, rows);
      for (int64_t row = 0; row < rows; row += at_once) {
        const int64_t count = std::min(at_once, rows - row);
        values.resize(static_cast<size_t>(count * columns));
        TREFOIL_RETURN_IF_ERROR(ReadRows(reader_, *parameter, row, count, values.data()));
        TREFOIL_RETURN_IF_ERROR(writer.Append(Encode(values, options_.dtype)));
        wrote_(count * columns);
      }
    }
    return absl::OkStatus();
  }

  absl::Status AppendTransposed(const NamedTensor& tensor, SafetensorsWriter& writer) {
    const auto columns = static_cast<size_t>(tensor.inputs()), outputs = static_cast<size_t>(tensor.outputs());
    std::vector<float> rows(columns * outputs), turned(columns * outputs);
    size_t first = 0;
    for (const Parameter* parameter : tensor.parameters) {
      const auto count = static_cast<size_t>(parameter->shape[0]);
      TREFOIL_RETURN_IF_ERROR(ReadRows(reader_, *parameter, 0, parameter->shape[0], rows.data() + first * columns));
      first += count;
    }
    for (size_t output = 0; output < outputs; ++output) {
      for (size_t input = 0; input < columns; ++input)
        turned[input * outputs + output] = rows[output * columns + input];
    }
    wrote_(static_cast<int64_t>(turned.size()));
    return writer.Append(Encode(turned, options_.dtype));
  }

  const CheckpointReader& reader_;
  const ExportOptions& options_;
  const std::function<void(int64_t elements)> wrote_;
};

absl::StatusOr<std::string> ConfigText(const ForeignFamily& family, const ForeignModel& model,
                                       const ExportOptions& options) {
  TREFOIL_ASSIGN_OR_RETURN(nlohmann::json config, family.write(model));
  config["model_type"] = family.model_type;
  const std::string dtype = options.dtype == "F32" ? "float32" : options.dtype == "F16" ? "float16" : "bfloat16";
  config["dtype"] = dtype;
  config["torch_dtype"] = dtype;
  if (model.model.initial_deviation() > 0) config["initializer_range"] = model.model.initial_deviation();
  if (model.end_of_text.size() == 1) config["eos_token_id"] = model.end_of_text.front();
  if (model.end_of_text.size() > 1) config["eos_token_id"] = model.end_of_text;
  return config.dump(2) + "\n";
}

absl::Status CheckComplete(const CheckpointReader& reader, const ParameterTable& table) {
  std::vector<std::string> missing;
  for (const Parameter& parameter : table.all()) {
    if (reader.Find(parameter.name) == nullptr) missing.push_back(parameter.name);
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError("the checkpoint lacks " + absl::StrJoin(missing, ", "));
}

}  // namespace

absl::Status ExportModel(FileSystem& fs, Group& all, const CheckpointReader& reader, const ForeignModel& model,
                         const ExportOptions& options, const std::string& folder,
                         const std::function<void(int64_t done, int64_t total)>& progress, ExportSummary* summary) {
  const ParameterTable table = DeclareModel(model.model);
  TREFOIL_ASSIGN_OR_RETURN(const ForeignFamily* const family, ForeignFamilyOf(model.model));
  TREFOIL_ASSIGN_OR_RETURN(const std::string config, ConfigText(*family, model, options));
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<NamedTensor> tensors, ExpandNames(family->rows, model.model, table));
  TREFOIL_RETURN_IF_ERROR(CheckComplete(reader, table));
  const std::vector<ShardPlan> shards = PlanShards(tensors, options);
  const auto files = static_cast<int>(shards.size());
  *summary = {.model_type = family->model_type,
              .parameters = table.elements(),
              .tensors = static_cast<int>(tensors.size()),
              .files = files};
  for (const ShardPlan& shard : shards) summary->bytes += shard.bytes;

  int64_t total = 0, done = 0;
  for (int i = all.rank(); i < files; i += all.size()) total += shards[static_cast<size_t>(i)].bytes;
  const auto size = static_cast<int64_t>(FindNumberFormat(options.dtype)->block_bytes);
  ShardWriter writer(reader, options, [&](int64_t elements) {
    done += elements * size;
    if (progress != nullptr) progress(done, total);
  });
  absl::Status status;
  for (int i = all.rank(); i < files && status.ok(); i += all.size()) {
    status = writer.Write(fs, folder + "/" + SafetensorsShard(i, files), shards[static_cast<size_t>(i)]);
  }
  if (all.rank() == 0 && files > 1 && status.ok()) {
    std::map<std::string, std::string> file_of;
    for (int i = 0; i < files; ++i) {
      for (const NamedTensor* tensor : shards[static_cast<size_t>(i)].tensors)
        file_of[tensor->name] = SafetensorsShard(i, files);
    }
    status = WriteFile(fs, folder + "/" + kSafetensorsIndex, SafetensorsIndexText(file_of, summary->bytes));
  }
  if (all.rank() == 0 && status.ok()) status = WriteFile(fs, folder + "/config.json", config);
  return all.Agree(status);
}

}  // namespace trefoil
