#include "data/token_file.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include <absl/strings/str_cat.h>

#include "runtime/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int kCodeI32 = 4;
constexpr int kCodeU16 = 8;
constexpr int64_t kHeaderBytes = 34;
constexpr int64_t kU16Vocabulary = 65500;  // Megatron-LM's bound
constexpr size_t kBufferBytes = size_t{1} << 20;

// Bytes of one token; 0 for a code that is not an integer type.
int64_t ItemSize(int code) {
  switch (code) {
    case 1:
    case 2:
      return 1;
    case 3:
    case 8:
      return 2;
    case 4:
      return 4;
    case 5:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
void Store(std::vector<std::byte>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

// A whole file mapped read-only; unmapped on destruction unless released.
struct Mapping {
  std::byte* data = nullptr;
  size_t bytes = 0;

  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data(std::exchange(other.data, nullptr)), bytes(std::exchange(other.bytes, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data, other.data);
    std::swap(bytes, other.bytes);
    return *this;
  }
  ~Mapping() {
    if (data != nullptr) munmap(data, bytes);
  }
};

absl::StatusOr<Mapping> Map(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string why = std::strerror(errno);
    return errno == ENOENT ? absl::NotFoundError(absl::StrCat(
                                 path, ": missing; a token file is a pair PREFIX.bin and PREFIX.idx, as written by "
                                       "`trefoil tokenize`"))
                           : absl::PermissionDeniedError(absl::StrCat(path, ": ", why));
  }
  struct stat info;
  const bool ok = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  Mapping mapping;
  void* data = MAP_FAILED;
  if (ok && info.st_size > 0) data = mmap(nullptr, info.st_size, PROT_READ, MAP_SHARED, fd, 0);
  const std::string why = std::strerror(errno);
  close(fd);
  if (!ok) return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  if (info.st_size == 0) return mapping;
  if (data == MAP_FAILED) return absl::InternalError(absl::StrCat(path, ": cannot be mapped into memory: ", why));
  mapping.data = static_cast<std::byte*>(data);
  mapping.bytes = static_cast<size_t>(info.st_size);
  return mapping;
}

uint32_t Checksum(std::span<const std::byte> idx, std::span<const std::byte> bin) {
  constexpr size_t kBlock = 4096;
  uint32_t crc = Crc32c(idx);
  for (const size_t begin : {size_t{0}, bin.size() / 2, bin.size() - std::min(bin.size(), kBlock)}) {
    crc = Crc32c(bin.subspan(begin, std::min(kBlock, bin.size() - begin)), crc);
  }
  return crc;
}

template <typename T>
void Widen(const std::byte* from, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const T value = Load<T>(from + i * sizeof(T));
    if constexpr (sizeof(T) > sizeof(int32_t)) {
      out[i] = static_cast<int32_t>(
          std::clamp<T>(value, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
    } else {
      out[i] = value;
    }
  }
}

}  // namespace

TokenFileWriter::TokenFileWriter(FileSystem& fs, std::string prefix, int64_t vocabulary)
    : fs_(fs), prefix_(std::move(prefix)), vocabulary_(vocabulary), wide_(vocabulary >= kU16Vocabulary) {}

absl::StatusOr<std::unique_ptr<TokenFileWriter>> TokenFileWriter::Create(FileSystem& fs, std::string prefix,
                                                                         int64_t vocabulary) {
  CHECK_GE(vocabulary, 1);
  std::unique_ptr<TokenFileWriter> writer(new TokenFileWriter(fs, std::move(prefix), vocabulary));
  TREFOIL_ASSIGN_OR_RETURN(writer->bin_, fs.Create(writer->prefix_ + ".bin.partial"));
  writer->buffer_.reserve(kBufferBytes);
  return writer;
}

TokenFileWriter::~TokenFileWriter() {
  if (finished_) return;
  bin_.reset();
  fs_.Remove(prefix_ + ".bin.partial").IgnoreError();
  fs_.Remove(prefix_ + ".idx.partial").IgnoreError();
}

absl::Status TokenFileWriter::AddTokens(std::span<const int32_t> tokens) {
  const size_t item = wide_ ? 4 : 2;
  for (size_t begin = 0; begin < tokens.size();) {
    const size_t at = buffer_.size();
    const std::span<const int32_t> part =
        tokens.subspan(begin, std::min(tokens.size() - begin, (kBufferBytes - at) / item));
    for (int32_t token : part) {
      CHECK(token >= 0 && token < vocabulary_) << prefix_ << ": token " << token << ", vocabulary " << vocabulary_;
    }
    buffer_.resize(at + part.size() * item);
    if (wide_) {
      std::memcpy(&buffer_[at], part.data(), part.size() * item);
    } else {
      auto* to = reinterpret_cast<uint16_t*>(&buffer_[at]);  // aligned: the buffer holds whole tokens of one size
      for (size_t i = 0; i < part.size(); ++i) to[i] = static_cast<uint16_t>(part[i]);
    }
    begin += part.size();
    if (buffer_.size() == kBufferBytes) TREFOIL_RETURN_IF_ERROR(Flush());
  }
  tokens_ += static_cast<int64_t>(tokens.size());
  return absl::OkStatus();
}

void TokenFileWriter::EndDocument() {
  CHECK_LE(tokens_ - document_begin_, std::numeric_limits<int32_t>::max());
  lengths_.push_back(static_cast<int32_t>(tokens_ - document_begin_));
  document_begin_ = tokens_;
}

absl::Status TokenFileWriter::AddDocument(std::span<const int32_t> tokens) {
  TREFOIL_RETURN_IF_ERROR(AddTokens(tokens));
  EndDocument();
  return absl::OkStatus();
}

absl::Status TokenFileWriter::Flush() {
  TREFOIL_RETURN_IF_ERROR(bin_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status TokenFileWriter::WriteIndex() {
  TREFOIL_ASSIGN_OR_RETURN(auto idx, fs_.Create(prefix_ + ".idx.partial"));
  std::vector<std::byte> out;
  out.reserve(kBufferBytes + sizeof(int64_t));
  auto flush_if = [&](size_t limit) {
    if (out.size() < limit) return absl::OkStatus();
    absl::Status status = idx->Append(out);
    out.clear();
    return status;
  };
  for (char c : kMagic) Store(out, c);
  Store(out, uint64_t{1});
  Store(out, static_cast<uint8_t>(wide_ ? kCodeI32 : kCodeU16));
  Store(out, static_cast<uint64_t>(lengths_.size()));
  Store(out, static_cast<uint64_t>(lengths_.size()) + 1);
  for (int32_t length : lengths_) {
    Store(out, length);
    TREFOIL_RETURN_IF_ERROR(flush_if(kBufferBytes));
  }
  int64_t start = 0;
  for (int32_t length : lengths_) {
    Store(out, start);
    start += int64_t{length} * (wide_ ? 4 : 2);
    TREFOIL_RETURN_IF_ERROR(flush_if(kBufferBytes));
  }
  for (int64_t document = 0; document <= static_cast<int64_t>(lengths_.size()); ++document) {
    Store(out, document);
    TREFOIL_RETURN_IF_ERROR(flush_if(kBufferBytes));
  }
  TREFOIL_RETURN_IF_ERROR(flush_if(0));
  return idx->Close();
}

absl::Status TokenFileWriter::Finish() {
  CHECK(!finished_);
  if (tokens_ > document_begin_) EndDocument();
  TREFOIL_RETURN_IF_ERROR(Flush());
  TREFOIL_RETURN_IF_ERROR(bin_->Close());
  TREFOIL_RETURN_IF_ERROR(WriteIndex());
  // An old .idx must not be seen beside the new .bin.
  TREFOIL_RETURN_IF_ERROR(fs_.Remove(prefix_ + ".idx"));
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs_, prefix_ + ".bin.partial", prefix_ + ".bin"));
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs_, prefix_ + ".idx.partial", prefix_ + ".idx"));
  finished_ = true;
  return absl::OkStatus();
}

TokenFile::TokenFile(TokenFile&& other) noexcept { *this = std::move(other); }

TokenFile& TokenFile::operator=(TokenFile&& other) noexcept {
  std::swap(prefix_, other.prefix_);
  std::swap(code_, other.code_);
  std::swap(tokens_, other.tokens_);
  std::swap(documents_, other.documents_);
  std::swap(checksum_, other.checksum_);
  std::swap(bin_, other.bin_);
  std::swap(bin_bytes_, other.bin_bytes_);
  return *this;
}

TokenFile::~TokenFile() {
  if (bin_ != nullptr) munmap(const_cast<std::byte*>(bin_), bin_bytes_);
}

absl::StatusOr<TokenFile> TokenFile::Open(const std::string& prefix) {
  const std::string idx_path = prefix + ".idx";
  TREFOIL_ASSIGN_OR_RETURN(Mapping idx, Map(idx_path));
  TREFOIL_ASSIGN_OR_RETURN(Mapping bin, Map(prefix + ".bin"));
  TokenFile file;
  file.prefix_ = prefix;
  TREFOIL_RETURN_IF_ERROR(file.ReadIndex(idx_path, {idx.data, idx.bytes}, static_cast<int64_t>(bin.bytes)));
  file.checksum_ = Checksum({idx.data, idx.bytes}, {bin.data, bin.bytes});
  file.bin_ = std::exchange(bin.data, nullptr);
  file.bin_bytes_ = bin.bytes;
  return file;
}

absl::Status TokenFile::ReadIndex(const std::string& path, std::span<const std::byte> idx, int64_t bin_bytes) {
  const int64_t bytes = static_cast<int64_t>(idx.size());
  auto error = [&](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what...)); };

  if (bytes >= static_cast<int64_t>(sizeof(kMagic)) && std::memcmp(idx.data(), kMagic, sizeof(kMagic)) != 0) {
    std::string found;
    for (size_t i = 0; i < sizeof(kMagic); ++i) {
      absl::StrAppend(&found, absl::Hex(std::to_integer<int>(idx[i]), absl::kZeroPad2));
    }
    return error("begins with bytes ", found, "; a Megatron index begins with 4d4d49444944580000 (MMIDIDX)");
  }
  if (bytes < kHeaderBytes) {
    return error("truncated: ", bytes, " bytes; the header alone has ", kHeaderBytes);
  }
  const uint64_t version = Load<uint64_t>(&idx[9]);
  if (version != 1) return error("version ", version, "; only version 1 is known");
  code_ = Load<uint8_t>(&idx[17]);
  const int64_t item = ItemSize(code_);
  if (item == 0) {
    return error("dtype code ", code_, " is not an integer type; tokens have 1 u8, 2 i8, 3 i16, 4 i32, 5 i64 or 8 u16");
  }
  const uint64_t sequences = Load<uint64_t>(&idx[18]);
  const uint64_t boundaries = Load<uint64_t>(&idx[26]);
  // Checked against the file's size first, so that the products below cannot overflow.
  if (boundaries < 1) return error("0 document boundaries; there is one more than documents, at least 1");
  const uint64_t limit = static_cast<uint64_t>(bytes);
  if (sequences > limit / 12 || boundaries > limit / 8 ||
      kHeaderBytes + 12 * sequences + 8 * boundaries > limit) {
    return error("truncated: ", bytes, " bytes; ", sequences, " sequences and ", boundaries,
                 " document boundaries need 34 + 12 x sequences + 8 x boundaries");
  }
  const int64_t n = static_cast<int64_t>(sequences);
  const int64_t d = static_cast<int64_t>(boundaries);
  const int64_t expected = kHeaderBytes + 12 * n + 8 * d;
  if (bytes != expected && bytes != expected + n) {
    return error(bytes, " bytes; ", n, " sequences and ", d, " document boundaries make ", expected, " (or ",
                 expected + n, " with modes)");
  }

  const std::byte* lengths = idx.data() + kHeaderBytes;
  const std::byte* starts = lengths + 4 * n;
  const std::byte* documents = starts + 8 * n;
  int64_t tokens = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t length = Load<int32_t>(lengths + 4 * i);
    if (length < 0) return error("sequence ", i, " has length ", length, "; lengths are 0 or more");
    const int64_t start = Load<int64_t>(starts + 8 * i);
    if (start != tokens * item) {
      return error("sequence ", i, " starts at byte ", start, "; the lengths before it make ", tokens * item);
    }
    tokens += length;
  }
  int64_t last = 0;
  for (int64_t i = 0; i < d; ++i) {
    const int64_t boundary = Load<int64_t>(documents + 8 * i);
    if (i == 0 && boundary != 0) return error("document 0 begins at sequence ", boundary, "; the first begins at 0");
    if (boundary < last) {
      return error("document boundary ", i, " is ", boundary, " after ", last, "; boundaries never fall");
    }
    last = boundary;
  }
  if (last != n) return error("the last document ends at sequence ", last, "; there are ", n, " sequences");
  if (bin_bytes != tokens * item) {
    return absl::InvalidArgumentError(absl::StrCat(prefix_, ".bin: ", bin_bytes < tokens * item ? "truncated: " : "",
                                                   bin_bytes, " bytes; ", path, " says ", tokens, " tokens of ", item,
                                                   " bytes, ", tokens * item, " in all"));
  }
  if (tokens == 0) return error("holds 0 tokens; a token file has at least 1");
  tokens_ = tokens;
  documents_ = d - 1;
  return absl::OkStatus();
}

void TokenFile::Read(int64_t begin, std::span<int32_t> out) const {
  CHECK_GE(begin, 0);
  CHECK_LE(begin + static_cast<int64_t>(out.size()), tokens_);
  const std::byte* from = bin_ + begin * ItemSize(code_);
  switch (code_) {
    case 1:
      return Widen<uint8_t>(from, out);
    case 2:
      return Widen<int8_t>(from, out);
    case 3:
      return Widen<int16_t>(from, out);
    case 4:
      return Widen<int32_t>(from, out);
    case 5:
      return Widen<int64_t>(from, out);
    case 8:
      return Widen<uint16_t>(from, out);
    default:
      LOG(FATAL) << "dtype code " << code_;
  }
}

}  // namespace trefoil
