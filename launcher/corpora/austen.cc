#include "launcher/corpora/austen.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <zlib.h>

#include <cctype>
#include <iostream>


namespace trefoil {
namespace {

constexpr uint32_t kCharacterVector = 16;
constexpr uint32_t kString = 9;

// Reads big-endian fields off the front of a text; after the first that is not there, `failed` stays true.
class Fields {
 public:
  explicit Fields(std::string_view data) : data_(data) {}
  uint32_t U32() {
    const std::string_view bytes = Bytes(4);
    uint32_t value = 0;
    for (char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
    return value;
  }
  std::string_view Bytes(size_t n) {
    if (n > data_.size()) {
      failed_ = true;
      n = data_.size();
    }
    const std::string_view bytes = data_.substr(0, n);
    data_.remove_prefix(n);
    return bytes;
  }
  bool failed() const { return failed_; }
  bool empty() const { return data_.empty(); }
  std::string_view rest() const { return data_; }

 private:
  std::string_view data_;
  bool failed_ = false;
};

// The object in a record; takes the record off `fields`. Empty on failure.
std::string Inflate(Fields* fields) {
  const uint32_t raw_length = fields->U32();
  const std::string_view rest = fields->rest();
  if (fields->failed() || raw_length > uint64_t{1100} * rest.size()) return "";  // beyond what zlib can pack
  std::string raw(raw_length, 0);
  z_stream stream = {};
  if (inflateInit(&stream) != Z_OK) return "";
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest.data()));
  stream.avail_in = static_cast<uInt>(rest.size());
  stream.next_out = reinterpret_cast<Bytef*>(raw.data());
  stream.avail_out = raw_length;
  const int code = inflate(&stream, Z_FINISH);
  fields->Bytes(rest.size() - stream.avail_in);
  const bool ok = code == Z_STREAM_END && stream.avail_out == 0;
  inflateEnd(&stream);
  return ok ? raw : "";
}

bool ReadNovel(std::string_view object, Novel* novel) {
  Fields fields(object);
  if (fields.Bytes(2) != "X\n" || fields.U32() != 3) return false;
  fields.Bytes(8);             // versions of R
  fields.Bytes(fields.U32());  // the native encoding's name
  if ((fields.U32() & 255) != kCharacterVector) return false;
  const uint32_t count = fields.U32();
  for (uint32_t i = 0; i < count; ++i) {
    if ((fields.U32() & 255) != kString) return false;
    const uint32_t length = fields.U32();
    const std::string_view line = length == UINT32_MAX ? "" : fields.Bytes(length);
    if (fields.failed()) return false;
    if (novel->title.empty()) novel->title = line;
    absl::StrAppend(&novel->text, absl::string_view(line.data(), line.size()), "\n");
  }
  return !fields.failed() && !novel->title.empty();
}

// "PRIDE AND PREJUDICE" -> "pride_and_prejudice.txt"
std::string FileName(const std::string& title) {
  std::string name;
  for (unsigned char c : title) name += std::isalnum(c) ? static_cast<char>(std::tolower(c)) : '_';
  return name + ".txt";
}

}  // namespace

absl::StatusOr<std::vector<Novel>> ReadNovels(const std::string& name, std::string_view rdb) {
  Fields fields(rdb);
  std::vector<Novel> novels;
  while (!fields.empty()) {
    const size_t begin = rdb.size() - fields.rest().size();
    Novel novel;
    if (!ReadNovel(Inflate(&fields), &novel)) {
      return absl::DataLossError(
          absl::StrCat(name, ": the record at byte ", begin,
                       " is no character vector of R; a whole data/Rdata.rdb of r-cran-janeaustenr is "
                       "needed"));
    }
    novels.push_back(std::move(novel));
  }
  if (novels.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": empty; six novels are looked for"));
  return novels;
}

absl::Status ExtractAusten(FileSystem& fs, const std::string& rdb, const std::string& folder) {
  if (rdb.empty()) return absl::InvalidArgumentError("rdb: empty; name data/Rdata.rdb of r-cran-janeaustenr");
  if (folder.empty()) return absl::InvalidArgumentError("folder: empty; name a folder to write to");
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, rdb));
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<Novel> novels, ReadNovels(rdb, content));
  TREFOIL_RETURN_IF_ERROR(fs.MakeFolder(folder));
  size_t bytes = 0;
  for (const Novel& novel : novels) {
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, absl::StrCat(folder, "/", FileName(novel.title)), novel.text));
    bytes += novel.text.size();
  }
  std::cout << absl::StrFormat("%d novels, %.2f MB of text, in %s\n", novels.size(), bytes / 1e6, folder);
  return absl::OkStatus();
}

}  // namespace trefoil
