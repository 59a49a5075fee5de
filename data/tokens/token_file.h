// Token files: Megatron indexed data sets, a pair PREFIX.bin (the tokens) and PREFIX.idx (where documents begin).
//
//   TREFOIL_ASSIGN_OR_RETURN(auto writer, TokenFileWriter::Create(fs, "corpus/train-00000", vocabulary));
//   TREFOIL_RETURN_IF_ERROR(writer->AddDocument(ids));        // any number of times
//   TREFOIL_RETURN_IF_ERROR(writer->Finish());
//
//   TREFOIL_ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open("corpus/train-00000"));
//   std::vector<int32_t> ids(100);
//   TREFOIL_RETURN_IF_ERROR(file.Read(file.tokens() - 100, ids));   // the last 100 tokens
//
// Both read and write what Megatron-LM does: a pair written here trains there, and the other way round. Training reads
// the pair as one stream of tokens; the documents matter to the writer and to `documents()` only.
//
// Format (little-endian, nothing aligned):
//   .bin := token[length 0] token[length 1] ...                             no header, no padding
//   .idx := "MMIDIDX\0\0" u64 version=1 u8 code u64 N u64 D i32 length[N] i64 start[N] i64 document[D] mode?
//   code := 1 u8 | 2 i8 | 3 i16 | 4 i32 | 5 i64 | 6 f64 | 7 f32 | 8 u16     type of a token; 6 and 7 are refused
//   start    byte offset in .bin of each of the N sequences: the sum of the lengths before it x the size of a token
//   document sequence number where each document begins: first 0, never falling, last N; D = documents + 1
//   mode     i8[N], multimodal data sets only (told by the file's size): ignored
// Example: documents [1,2,3] and [7] as u16: .bin 0100 0200 0300 0700; .idx has N = 2, D = 3, lengths 3 1, starts 0 6,
// documents 0 1 2.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Writes one pair. Tokens stream to disk; memory is a fixed buffer plus 4 bytes a document.
//
// Until Finish returns ok the pair is under temporary names (PREFIX.bin.partial, PREFIX.idx.partial). Finish flushes
// both, removes an older PREFIX.idx, and renames .bin, then .idx: whoever finds an .idx finds its own .bin whole.
// Destroyed without Finish, it removes the temporary files.
//
// Failure: what the file system says. After a failed call only destroy it. One thread at a time.
class TokenFileWriter {
 public:
  // Ids are to be in [0, vocabulary): below 65500 they are stored as u16, else as i32 (as Megatron-LM does).
  // `fs` outlives the writer.
  static absl::StatusOr<std::unique_ptr<TokenFileWriter>> Create(FileSystem& fs, std::string prefix,
                                                                 int64_t vocabulary);
  ~TokenFileWriter();
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  // Appends to the document at hand, which begins after the last EndDocument.
  absl::Status AddTokens(std::span<const int32_t> tokens);
  // Ends it: one sequence of at most 2^31 - 1 tokens. It may be empty.
  void EndDocument();
  absl::Status AddDocument(std::span<const int32_t> tokens);
  // A document at hand is ended.
  absl::Status Finish();

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(lengths_.size()); }
  // Of the .bin file, were it finished now.
  int64_t bytes() const { return tokens_ * (wide_ ? 4 : 2); }

 private:
  TokenFileWriter(FileSystem& fs, std::string prefix, int64_t vocabulary);
  absl::Status Flush();
  absl::Status WriteIndex();

  FileSystem& fs_;
  const std::string prefix_;
  const int64_t vocabulary_;
  const bool wide_;  // i32, else u16
  std::unique_ptr<WritableFile> bin_;
  std::vector<std::byte> buffer_;
  std::vector<int32_t> lengths_;
  int64_t tokens_ = 0;
  int64_t document_begin_ = 0;  // token number where the document at hand begins
  bool finished_ = false;
};

// A pair opened for reading: opening costs one pass over the .idx, and each Read one of the .bin. Movable; the file system
// may go first. Threads: const calls from any.
//
// Open checks everything that can be checked without reading the tokens; each error names the file, the value found and
// the rule. A pair without tokens is an error. A .bin that is cut short or rewritten in place while it is open is an
// error of the next Read; one that is replaced by a rename stays what it was.
class TokenFile {
 public:
  // `prefix` is the path without .bin or .idx.
  static absl::StatusOr<TokenFile> Open(const std::string& prefix, FileSystem& fs = FileSystem::Posix());

  const std::string& prefix() const { return prefix_; }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  // CRC32C of the .idx and of the first, the middle and the last 4 KiB of the .bin: tells files apart without reading
  // them whole.
  uint32_t checksum() const { return checksum_; }
  // Copies tokens [begin, begin + out.size()), which must be inside [0, tokens()). An i64 token beyond 32 bits becomes
  // INT32_MIN or INT32_MAX, which no vocabulary has. Failure: what the file system says, with file and place.
  absl::Status Read(int64_t begin, std::span<int32_t> out) const;
  // Reads the .idx again and says of each document, in order, at which token it begins and how many it has.
  absl::Status ForEachDocument(FileSystem& fs,
                               const std::function<void(int64_t begin, int64_t length)>& document) const;

 private:
  TokenFile() = default;
  absl::Status ReadIndex();
  absl::Status ReadChecksum();

  std::string prefix_;
  int code_ = 0;
  int64_t tokens_ = 0, sequences_ = 0, documents_ = 0;
  uint32_t checksum_ = 0;
  std::unique_ptr<ReadableFile> bin_, idx_;  // idx_ while it is checked
};

}  // namespace trefoil
