#include "exchange/safetensors.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "exchange/block_file.h"
#include "exchange/folder_file.h"
#include "exchange/json.h"
#include "exchange/number_formats.h"

namespace trefoil {
namespace {

constexpr int64_t kMostHeader = 100'000'000;

class SafetensorsFiles : public ForeignTensors {
 public:
  absl::Status AddFile(FileSystem& fs, const std::string& path) {
    TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, fs.Open(path));
    const absl::Status status = ReadHeader(*file, path);
    files_.push_back(std::move(file));
    paths_.push_back(path);
    return status;
  }

  absl::Status Sort() {
    std::sort(tensors_.begin(), tensors_.end(),
              [](const ForeignTensor& a, const ForeignTensor& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(tensors_.begin(), tensors_.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice == tensors_.end()) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(PathOf(*twice), ": the tensor ", twice->name, " is in ", PathOf(*std::next(twice)), " as well"));
  }

  const std::string& PathOf(const ForeignTensor& tensor) const { return paths_[static_cast<size_t>(tensor.file)]; }

  absl::Status Read(const ForeignTensor& tensor, int64_t first, std::span<float> out) const override {
    return ReadElements(*files_[static_cast<size_t>(tensor.file)], tensor, first, out);
  }

 private:
  absl::Status ReadHeader(const ReadableFile& file, const std::string& path);

  std::vector<std::unique_ptr<ReadableFile>> files_;
  std::vector<std::string> paths_;
};

// One entry, from JSON that is an object.
absl::StatusOr<ForeignTensor> EntryOf(const std::string& name, const nlohmann::json& json) {
  ForeignTensor tensor = {.name = name, .dtype = "", .shape = {}};
  const auto wrong = [&](const std::string& rule) { return absl::DataLossError(absl::StrCat(name, ": ", rule)); };
  if (!json.is_object() || json.size() != 3) return wrong("must have dtype, shape and data_offsets, and nothing else");
  const auto dtype = json.find("dtype"), shape = json.find("shape"), offsets = json.find("data_offsets");
  const auto size = [](const nlohmann::json& number) {
    return number.is_number_unsigned() && number.get<uint64_t>() <= uint64_t{1} << 60;
  };
  if (dtype == json.end() || !dtype->is_string()) return wrong("dtype must be a word");
  tensor.dtype = dtype->get<std::string>();
  const NumberFormat* const format = FindNumberFormat(tensor.dtype);
  if (format == nullptr || format->block_elements != 1)
    return wrong(absl::StrCat("dtype ", tensor.dtype, " is not known"));
  if (shape == json.end() || !shape->is_array() || !std::all_of(shape->begin(), shape->end(), size)) {
    return wrong("shape must be a list of sizes");
  }
  tensor.shape = shape->get<std::vector<int64_t>>();
  if (offsets == json.end() || !offsets->is_array() || offsets->size() != 2 ||
      !std::all_of(offsets->begin(), offsets->end(), size)) {
    return wrong("data_offsets must be two sizes");
  }
  tensor.begin = (*offsets)[0].get<int64_t>();
  tensor.bytes = (*offsets)[1].get<int64_t>() - tensor.begin;
  const int64_t elements = tensor.elements();
  if (elements < 0 || elements > (int64_t{1} << 60) / format->block_bytes ||
      elements * format->block_bytes != tensor.bytes) {
    return wrong(absl::StrCat("data_offsets span ", tensor.bytes, " bytes, ", tensor.dtype, " ", tensor.ShapeText(),
                              " has another number"));
  }
  return tensor;
}

absl::Status SafetensorsFiles::ReadHeader(const ReadableFile& file, const std::string& path) {
  const auto wrong = [&](const std::string& what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); };
  const int64_t size = file.size();
  if (size < 8) return wrong(absl::StrCat("has ", size, " bytes, and no safetensors header"));
  uint64_t length = 0;
  TREFOIL_RETURN_IF_ERROR(file.Read(0, std::as_writable_bytes(std::span(&length, 1))));
  if (length > kMostHeader || length > static_cast<uint64_t>(size - 8)) {
    return wrong(absl::StrCat("its header would have ", length, " bytes, of ", size - 8, " behind its length; at most ",
                              kMostHeader, ": no safetensors file, or truncated"));
  }
  std::string text(length, '\0');
  TREFOIL_RETURN_IF_ERROR(file.Read(8, std::as_writable_bytes(std::span(text))));
  const absl::StatusOr<nlohmann::json> header = ParseJson(text, path + ": header");
  if (!header.ok()) return header.status();
  if (!header->is_object()) return wrong("its header is no JSON object");
  const size_t first = tensors_.size();
  for (const auto& [name, json] : header->items()) {
    if (name == "__metadata__") continue;
    absl::StatusOr<ForeignTensor> tensor = EntryOf(name, json);
    if (!tensor.ok()) return wrong(std::string(tensor.status().message()));
    tensor->begin += 8 + static_cast<int64_t>(length);
    tensor->file = static_cast<int>(files_.size());
    tensors_.push_back(*std::move(tensor));
  }
  const auto begin = tensors_.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, tensors_.end(), [](const ForeignTensor& a, const ForeignTensor& b) {
    return std::pair(a.begin, a.bytes) < std::pair(b.begin, b.bytes);
  });
  int64_t end = 8 + static_cast<int64_t>(length);
  for (auto tensor = begin; tensor != tensors_.end(); ++tensor) {
    if (tensor->begin != end) {
      return wrong(absl::StrCat(tensor->name, " begins at byte ", tensor->begin,
                                " of the file, and what comes before it ends at ", end,
                                ": tensors must lie one behind the other"));
    }
    end += tensor->bytes;
  }
  if (end != size) {
    return wrong(
        absl::StrCat("its tensors end at byte ", end, ", the file at ", size, end > size ? ": truncated" : ""));
  }
  return absl::OkStatus();
}

// The files that an index names, and which tensor is in which.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(FileSystem& fs, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path));
  TREFOIL_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, path));
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    return absl::DataLossError(path + ": must be an object with an object \"weight_map\"");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) return absl::DataLossError(path + ": weight_map: " + tensor + ": must be a file's name");
    files[tensor] = file.get<std::string>();
  }
  return files;
}

std::string FirstNames(const std::vector<std::string>& names) {
  const size_t shown = std::min<size_t>(names.size(), 5);
  return absl::StrCat(absl::StrJoin(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                      names.size() > shown ? absl::StrCat(" and ", names.size() - shown, " more") : "");
}

absl::Status AddIndexed(FileSystem& fs, const std::string& folder, SafetensorsFiles* files) {
  const std::string path = folder + "/" + kSafetensorsIndex;
  TREFOIL_ASSIGN_OR_RETURN(const auto file_of, ReadIndex(fs, path));
  std::set<std::string> names;
  for (const auto& [tensor, file] : file_of) names.insert(file);
  for (const std::string& name : names) {
    absl::StatusOr<std::string> file = FileInFolder(folder, name);
    if (!file.ok()) {
      return absl::Status(file.status().code(), absl::StrCat(path, ": weight_map: ", file.status().message()));
    }
    TREFOIL_RETURN_IF_ERROR(files->AddFile(fs, *file));
  }
  TREFOIL_RETURN_IF_ERROR(files->Sort());
  std::vector<std::string> elsewhere, unlisted;
  for (const auto& [name, file] : file_of) {
    const ForeignTensor* const tensor = files->Find(name);
    if (tensor == nullptr || files->PathOf(*tensor) != folder + "/" + file) elsewhere.push_back(name);
  }
  for (const ForeignTensor& tensor : files->tensors()) {
    if (!file_of.contains(tensor.name)) unlisted.push_back(tensor.name);
  }
  if (!elsewhere.empty()) {
    return absl::DataLossError(path + ": not in the files that it says: " + FirstNames(elsewhere));
  }
  if (!unlisted.empty())
    return absl::DataLossError(path + ": does not list, though its files have: " + FirstNames(unlisted));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ForeignTensors>> OpenSafetensors(FileSystem& fs, const std::string& path) {
  auto files = std::make_unique<SafetensorsFiles>();
  if (path.ends_with(".safetensors")) {
    TREFOIL_RETURN_IF_ERROR(files->AddFile(fs, path));
    TREFOIL_RETURN_IF_ERROR(files->Sort());
    return files;
  }
  if (fs.Exists(path + "/" + kSafetensorsIndex)) {
    TREFOIL_RETURN_IF_ERROR(AddIndexed(fs, path, files.get()));
    return files;
  }
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  if (std::find(names.begin(), names.end(), kSafetensorsFile) == names.end()) {
    const bool pickled = std::any_of(names.begin(), names.end(), [](const std::string& name) {
      return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth");
    });
    return absl::NotFoundError(absl::StrCat(
        path, ": has no ", kSafetensorsFile, " and no ", kSafetensorsIndex,
        pickled ? "; its .bin or .pt files are Python pickles, which run code when they are read, and are not "
                  "taken: save the model with save_pretrained, which writes safetensors"
                : ""));
  }
  TREFOIL_ASSIGN_OR_RETURN(const std::string file, FileInFolder(path, kSafetensorsFile));
  TREFOIL_RETURN_IF_ERROR(files->AddFile(fs, file));
  TREFOIL_RETURN_IF_ERROR(files->Sort());
  return files;
}

int64_t SafetensorsEntry::bytes() const { return ElementsOf(shape) * FindNumberFormat(dtype)->block_bytes; }

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    FileSystem& fs, const std::string& path, std::span<const SafetensorsEntry> entries) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t begin = end;
    end += entry.bytes();
    header[entry.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  auto writer = std::make_unique<SafetensorsWriter>();
  TREFOIL_ASSIGN_OR_RETURN(writer->file_, fs.Create(path));
  writer->left_ = end;
  const uint64_t length = text.size();
  TREFOIL_RETURN_IF_ERROR(writer->file_->Append(std::as_bytes(std::span(&length, 1))));
  TREFOIL_RETURN_IF_ERROR(writer->file_->Append(std::as_bytes(std::span(text))));
  return writer;
}

absl::Status SafetensorsWriter::Append(std::span<const std::byte> bytes) {
  left_ -= static_cast<int64_t>(bytes.size());
  CHECK_GE(left_, 0) << "more elements than the header says";
  return file_->Append(bytes);
}

absl::Status SafetensorsWriter::Close() {
  CHECK_EQ(left_, 0) << "bytes of elements that are missing";
  return file_->Close();
}

std::string SafetensorsShard(int number, int files) {
  if (files == 1) return kSafetensorsFile;
  return absl::StrFormat("model-%05d-of-%05d.safetensors", number + 1, files);
}

std::string SafetensorsIndexText(const std::map<std::string, std::string>& file_of_tensor, int64_t total_bytes) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", file_of_tensor}};
  return index.dump(2) + "\n";
}

}  // namespace trefoil
