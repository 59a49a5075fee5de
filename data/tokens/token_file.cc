#include "data/tokens/token_file.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "runtime/files/crc32c.h"

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

absl::StatusOr<std::unique_ptr<ReadableFile>> OpenHalf(FileSystem& fs, const std::string& path) {
  auto file = fs.Open(path);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(absl::StrCat(
        path, ": missing; a token file is a pair PREFIX.bin and PREFIX.idx, as written by `trefoil tokenize`"));
  }
  return file;
}

// The numbers of an array of the index, one after the other.
template <typename T>
class Numbers {
 public:
  Numbers(const ReadableFile& file, int64_t offset, int64_t count) : file_(file), offset_(offset), left_(count) {}

  absl::Status Next(T* number) {
    if (at_ == buffer_.size()) {
      buffer_.resize(static_cast<size_t>(std::min<int64_t>(left_, kBufferBytes / sizeof(T))));
      TREFOIL_RETURN_IF_ERROR(file_.Read(offset_, std::as_writable_bytes(std::span(buffer_))));
      offset_ += static_cast<int64_t>(buffer_.size() * sizeof(T));
      left_ -= static_cast<int64_t>(buffer_.size());
      at_ = 0;
    }
    *number = buffer_[at_++];
    return absl::OkStatus();
  }

 private:
  const ReadableFile& file_;
  int64_t offset_, left_;
  std::vector<T> buffer_;
  size_t at_ = 0;
};

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

absl::StatusOr<TokenFile> TokenFile::Open(const std::string& prefix, FileSystem& fs) {
  TokenFile file;
  file.prefix_ = prefix;
  TREFOIL_ASSIGN_OR_RETURN(file.idx_, OpenHalf(fs, prefix + ".idx"));
  TREFOIL_ASSIGN_OR_RETURN(file.bin_, OpenHalf(fs, prefix + ".bin"));
  TREFOIL_RETURN_IF_ERROR(file.ReadIndex());
  TREFOIL_RETURN_IF_ERROR(file.ReadChecksum());
  file.bin_->ExpectRandomReads();
  file.idx_.reset();
  return file;
}

absl::Status TokenFile::ReadIndex() {
  const std::string path = prefix_ + ".idx";
  const int64_t bytes = idx_->size();
  auto error = [&](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what...)); };

  std::array<std::byte, kHeaderBytes> header = {};
  const size_t there = static_cast<size_t>(std::min(bytes, kHeaderBytes));
  TREFOIL_RETURN_IF_ERROR(idx_->Read(0, std::span(header).first(there)));
  if (bytes >= static_cast<int64_t>(sizeof(kMagic)) && std::memcmp(header.data(), kMagic, sizeof(kMagic)) != 0) {
    std::string found;
    for (size_t i = 0; i < sizeof(kMagic); ++i) {
      absl::StrAppend(&found, absl::Hex(std::to_integer<int>(header[i]), absl::kZeroPad2));
    }
    return error("begins with bytes ", found, "; a Megatron index begins with 4d4d49444944580000 (MMIDIDX)");
  }
  if (bytes < kHeaderBytes) {
    return error("truncated: ", bytes, " bytes; the header alone has ", kHeaderBytes);
  }
  const uint64_t version = Load<uint64_t>(&header[9]);
  if (version != 1) return error("version ", version, "; only version 1 is known");
  code_ = Load<uint8_t>(&header[17]);
  const int64_t item = ItemSize(code_);
  if (item == 0) {
    return error("dtype code ", code_, " is not an integer type; tokens have 1 u8, 2 i8, 3 i16, 4 i32, 5 i64 or 8 u16");
  }
  const uint64_t sequences = Load<uint64_t>(&header[18]);
  const uint64_t boundaries = Load<uint64_t>(&header[26]);
  // Checked against the file's size first, so that the products below cannot overflow.
  if (boundaries < 1) return error("0 document boundaries; there is one more than documents, at least 1");
  const uint64_t limit = static_cast<uint64_t>(bytes);
  if (sequences > limit / 12 || boundaries > limit / 8 ||
      kHeaderBytes + 12 * sequences + 8 * boundaries > limit) {
    return error("truncated: ", bytes, " bytes; ", sequences, " sequences and ", boundaries,
                 " document boundaries need 34 + 12 x sequences + 8 x boundaries");
  }
  sequences_ = static_cast<int64_t>(sequences);
  documents_ = static_cast<int64_t>(boundaries) - 1;
  const int64_t expected = kHeaderBytes + 12 * sequences_ + 8 * (documents_ + 1);
  if (bytes != expected && bytes != expected + sequences_) {
    return error(bytes, " bytes; ", sequences, " sequences and ", boundaries, " document boundaries make ", expected,
                 " (or ", expected + sequences_, " with modes)");
  }

  Numbers<int32_t> lengths(*idx_, kHeaderBytes, sequences_);
  Numbers<int64_t> starts(*idx_, kHeaderBytes + 4 * sequences_, sequences_);
  for (int64_t i = 0; i < sequences_; ++i) {
    int32_t length = 0;
    int64_t start = 0;
    TREFOIL_RETURN_IF_ERROR(lengths.Next(&length));
    TREFOIL_RETURN_IF_ERROR(starts.Next(&start));
    if (length < 0) return error("sequence ", i, " has length ", length, "; lengths are 0 or more");
    if (start != tokens_ * item) {
      return error("sequence ", i, " starts at byte ", start, "; the lengths before it make ", tokens_ * item);
    }
    tokens_ += length;
  }
  Numbers<int64_t> documents(*idx_, kHeaderBytes + 12 * sequences_, documents_ + 1);
  int64_t last = 0;
  for (int64_t i = 0; i <= documents_; ++i) {
    int64_t boundary = 0;
    TREFOIL_RETURN_IF_ERROR(documents.Next(&boundary));
    if (i == 0 && boundary != 0) return error("document 0 begins at sequence ", boundary, "; the first begins at 0");
    if (boundary < last) {
      return error("document boundary ", i, " is ", boundary, " after ", last, "; boundaries never fall");
    }
    last = boundary;
  }
  if (last != sequences_) {
    return error("the last document ends at sequence ", last, "; there are ", sequences_, " sequences");
  }
  if (bin_->size() != tokens_ * item) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefix_, ".bin: ", bin_->size() < tokens_ * item ? "truncated: " : "", bin_->size(), " bytes; ", path, " says ",
        tokens_, " tokens of ", item, " bytes, ", tokens_ * item, " in all"));
  }
  if (tokens_ == 0) return error("holds 0 tokens; a token file has at least 1");
  return absl::OkStatus();
}

absl::Status TokenFile::ReadChecksum() {
  std::vector<std::byte> buffer;
  const auto add = [&](const ReadableFile& file, int64_t begin, int64_t end) -> absl::Status {
    for (int64_t at = begin; at < end; at += static_cast<int64_t>(buffer.size())) {
      buffer.resize(static_cast<size_t>(std::min<int64_t>(end - at, kBufferBytes)));
      TREFOIL_RETURN_IF_ERROR(file.Read(at, buffer));
      checksum_ = Crc32c(buffer, checksum_);
    }
    return absl::OkStatus();
  };
  TREFOIL_RETURN_IF_ERROR(add(*idx_, 0, idx_->size()));
  constexpr int64_t kBlock = 4096;
  const int64_t bytes = bin_->size();
  for (const int64_t begin : {int64_t{0}, bytes / 2, std::max<int64_t>(bytes - kBlock, 0)}) {
    TREFOIL_RETURN_IF_ERROR(add(*bin_, begin, std::min(begin + kBlock, bytes)));
  }
  return absl::OkStatus();
}

absl::Status TokenFile::ForEachDocument(FileSystem& fs,
                                        const std::function<void(int64_t begin, int64_t length)>& document) const {
  TREFOIL_ASSIGN_OR_RETURN(const auto idx, OpenHalf(fs, prefix_ + ".idx"));
  Numbers<int32_t> lengths(*idx, kHeaderBytes, sequences_);
  Numbers<int64_t> boundaries(*idx, kHeaderBytes + 12 * sequences_, documents_ + 1);
  int64_t sequence = 0, begin = 0, end_sequence = 0;
  TREFOIL_RETURN_IF_ERROR(boundaries.Next(&end_sequence));
  for (int64_t i = 0; i < documents_; ++i) {
    TREFOIL_RETURN_IF_ERROR(boundaries.Next(&end_sequence));
    int64_t tokens = 0;
    for (; sequence < end_sequence; ++sequence) {
      int32_t length = 0;
      TREFOIL_RETURN_IF_ERROR(lengths.Next(&length));
      tokens += length;
    }
    document(begin, tokens);
    begin += tokens;
  }
  return absl::OkStatus();
}

absl::Status TokenFile::Read(int64_t begin, std::span<int32_t> out) const {
  CHECK_GE(begin, 0);
  CHECK_LE(begin + static_cast<int64_t>(out.size()), tokens_);
  const int64_t item = ItemSize(code_);
  std::vector<std::byte> bytes(out.size() * static_cast<size_t>(item));
  const absl::Status read = bin_->Read(begin * item, bytes);
  TREFOIL_RETURN_IF_ERROR(bin_->Unchanged());  // says more of a file that was cut short than the read does
  TREFOIL_RETURN_IF_ERROR(read);
  switch (code_) {
    case 1:
      Widen<uint8_t>(bytes.data(), out);
      break;
    case 2:
      Widen<int8_t>(bytes.data(), out);
      break;
    case 3:
      Widen<int16_t>(bytes.data(), out);
      break;
    case 4:
      Widen<int32_t>(bytes.data(), out);
      break;
    case 5:
      Widen<int64_t>(bytes.data(), out);
      break;
    case 8:
      Widen<uint16_t>(bytes.data(), out);
      break;
    default:
      LOG(FATAL) << "dtype code " << code_;
  }
  return absl::OkStatus();
}

}  // namespace trefoil
