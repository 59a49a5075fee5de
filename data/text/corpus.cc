#include "data/text/corpus.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <glog/logging.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "data/text/byte_source.h"
#include "data/text/json_sax.h"
#include "data/text/text_check.h"
#include "data/text/utf8.h"
#include "runtime/files/file.h"

namespace trefoil {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 20;
constexpr int64_t kFarthestBlankLine = int64_t{1} << 20;  // from a slice's nominal begin
constexpr std::string_view kOptionalSuffix = "[.gz|.zst]";
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool HasWildcard(std::string_view pattern) { return pattern.find_first_of("*?[") != std::string_view::npos; }

// Position after the first blank line that ends at or after `from`, with all the newlines that follow it directly; npos
// if there is none. A blank line whose end touches the end of `text` counts only when `complete`, as more may follow.
size_t AfterBlankLine(std::string_view text, size_t from, bool complete) {
  for (size_t at = from == 0 ? 0 : from - 1; (at = text.find('\n', at)) != std::string_view::npos; ++at) {
    size_t end = at + 1;
    while (end < text.size() &&
           (text[end] == '\n' || (text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n')))
      ++end;
    if (end == text.size() && !complete) return std::string_view::npos;
    if (end > at + 1 && end > from) return end;
  }
  return std::string_view::npos;
}

// Where to cut the next block off `text`; 0 if more text is needed to know. `complete`: no more follows.
size_t BlockCut(std::string_view text, size_t block_bytes, bool complete) {
  if (text.size() > block_bytes) {
    const std::string_view near = text.substr(0, 4 * block_bytes);
    const size_t blank = AfterBlankLine(near, block_bytes, complete && near.size() == text.size());
    if (blank != std::string_view::npos) return blank;
    if (text.size() > 4 * block_bytes) {
      const size_t newline = text.substr(0, 8 * block_bytes).find('\n', 4 * block_bytes);
      if (newline != std::string_view::npos) return newline + 1;
      if (text.size() > 8 * block_bytes) return Utf8Cut(text, 8 * block_bytes);
    }
  }
  return complete ? text.size() : 0;
}

// First cut of an uncompressed file at or after byte `from` (0 < from < size): after a line of .jsonl, after a blank
// line of .txt, or where there is none near, after a newline, or anywhere.
absl::StatusOr<int64_t> SliceCut(const TextSlice& slice, int64_t from, int64_t size) {
  TREFOIL_ASSIGN_OR_RETURN(auto source, ByteSource::Open(slice.path, from - 1, -1));
  std::string text;
  if (IsJsonLines(slice.path)) {
    for (int64_t at = from - 1; !source->ended(); at += static_cast<int64_t>(text.size())) {
      text.clear();
      TREFOIL_RETURN_IF_ERROR(source->Append(kReadBytes, &text));
      const size_t newline = text.find('\n');
      if (newline != std::string::npos) return at + static_cast<int64_t>(newline) + 1;
    }
    return size;
  }
  while (!source->ended() && static_cast<int64_t>(text.size()) < kFarthestBlankLine) {
    TREFOIL_RETURN_IF_ERROR(source->Append(kReadBytes, &text));
  }
  size_t cut = AfterBlankLine(text, 1, source->ended());
  if (cut == std::string::npos && source->ended()) return size;
  if (cut == std::string::npos) cut = text.find('\n') + 1;  // 0 if there is none
  if (cut == 0) cut = Utf8Cut(text, text.size() / 2);
  return from - 1 + static_cast<int64_t>(cut);
}

absl::StatusOr<int64_t> FileSize(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, S_ISDIR(info.st_mode) ? ": a folder; name files" : ": not a regular file"));
  }
  return static_cast<int64_t>(info.st_size);
}

// Takes the string field "text" of the outermost object.
class TextField : public JsonSax {
 public:
  bool null() override { return Other("null"); }
  bool boolean(bool) override { return Other("a boolean"); }
  bool number_integer(number_integer_t) override { return Other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Other("a number"); }
  bool binary(binary_t&) override { return Other("binary"); }
  bool string(string_t& value) override {
    if (depth_ == 0) return Other("a string");
    if (Here()) {
      text = std::move(value);
      found = true;
    }
    return true;
  }
  bool start_object(size_t) override { return Enter("an object"); }
  bool start_array(size_t) override {
    return depth_ == 0 ? Other("an array") : Enter("an array");
  }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    is_text_ = name == "text";
    return true;
  }

  std::string text;
  bool found = false;

 private:
  bool Here() const { return depth_ == 1 && is_text_; }
  bool Other(const char* what) {
    if (depth_ == 0) problem = absl::StrCat("is ", what, "; a line is a JSON object with a string field \"text\"");
    if (Here()) problem = absl::StrCat("field \"text\" is ", what, "; it is a string");
    return problem.empty();
  }
  bool Enter(const char* what) {
    if (Here()) return Other(what);
    ++depth_;
    return true;
  }
  bool Leave() {
    --depth_;
    return true;
  }
  int depth_ = 0;
  bool is_text_ = false;
};

// Number of the line of the file where byte `offset` is, from 1.
int64_t LineAt(const std::string& path, int64_t offset) {
  int64_t line = 1;
  auto source = ByteSource::Open(path, 0, offset);
  std::string text;
  while (source.ok() && !(*source)->ended()) {
    text.clear();
    if (!(*source)->Append(kReadBytes, &text).ok()) break;
    line += std::count(text.begin(), text.end(), '\n');
  }
  return line;
}

using BlockFunction = std::function<absl::Status(const TextBlock&)>;

absl::Status CutDocument(std::string_view text, int64_t block_bytes, double slice_done, const BlockFunction& block) {
  do {
    const size_t cut = BlockCut(text, block_bytes, true);
    TREFOIL_RETURN_IF_ERROR(block({text.substr(0, cut), cut == text.size(), slice_done}));
    text.remove_prefix(cut);
  } while (!text.empty());
  return absl::OkStatus();
}

// The part of a file that a slice is, from its first byte there on.
struct OpenSlice {
  std::unique_ptr<ByteSource> source;  // null: no line or block begins in it
  int64_t begin = 0;
  int64_t stored_bytes = 0;

  double Done() const {
    return stored_bytes > 0 ? std::min(1.0, static_cast<double>(source->stored_bytes()) / stored_bytes) : 1;
  }
};

absl::StatusOr<OpenSlice> Open(const TextSlice& slice) {
  OpenSlice open{.source = nullptr, .begin = 0, .stored_bytes = slice.bytes()};
  int64_t end = -1;
  if (!slice.whole) {
    TREFOIL_ASSIGN_OR_RETURN(const int64_t size, FileSize(slice.path));
    open.begin = slice.begin;
    end = slice.end;
    if (open.begin > 0) {
      TREFOIL_ASSIGN_OR_RETURN(open.begin, SliceCut(slice, open.begin, size));
    }
    if (end < size) {
      TREFOIL_ASSIGN_OR_RETURN(end, SliceCut(slice, end, size));
    }
    if (open.begin >= end) return open;
    open.stored_bytes = end - open.begin;
  }
  TREFOIL_ASSIGN_OR_RETURN(open.source, ByteSource::Open(slice.path, open.begin, end));
  return open;
}

absl::Status ReadText(OpenSlice& open, int64_t block_bytes, const BlockFunction& block) {
  ByteSource& source = *open.source;
  std::string buffer;
  size_t at = 0;  // what is before it has been handed over
  bool first = true;
  while (true) {
    const std::string_view rest = std::string_view(buffer).substr(at);
    const size_t cut = BlockCut(rest, block_bytes, source.ended());
    if (cut > 0 || source.ended()) {
      // The last block waits until it is known to be the last.
      const bool last = source.ended() && cut == rest.size();
      if (cut < rest.size() || last) {
        TREFOIL_RETURN_IF_ERROR(block({rest.substr(0, cut), last, open.Done()}));
        at += cut;
        if (last) return absl::OkStatus();
        continue;
      }
    }
    buffer.erase(0, at);
    at = 0;
    TREFOIL_RETURN_IF_ERROR(source.Append(kReadBytes, &buffer));
    if (first && buffer.size() >= kByteOrderMark.size()) {
      if (absl::StartsWith(buffer, {kByteOrderMark.data(), kByteOrderMark.size()}))
        buffer.erase(0, kByteOrderMark.size());
      first = false;
    }
  }
}

absl::Status ReadLines(const TextSlice& slice, OpenSlice& open,
                       const std::function<absl::Status(const JsonLine&)>& use) {
  ByteSource& source = *open.source;
  std::string buffer;
  size_t at = 0;
  int64_t line = 0;  // within the slice
  while (true) {
    size_t newline = buffer.find('\n', at);
    if (newline == std::string::npos && !source.ended()) {
      buffer.erase(0, at);
      at = 0;
      // Look for the newline in what is new only, or a line of many MB would be searched again and again.
      do {
        const size_t searched = buffer.size();
        TREFOIL_RETURN_IF_ERROR(source.Append(kReadBytes, &buffer));
        newline = buffer.find('\n', searched);
      } while (newline == std::string::npos && !source.ended());
    }
    if (newline == std::string::npos && at == buffer.size()) return absl::OkStatus();
    std::string_view json = std::string_view(buffer).substr(at, newline == std::string::npos ? newline : newline - at);
    at += json.size() + (newline == std::string::npos ? 0 : 1);
    if (++line == 1 && open.begin == 0 && json.substr(0, 3) == kByteOrderMark) json.remove_prefix(3);
    if (json.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    TREFOIL_RETURN_IF_ERROR(use(
        {.json = json, .slice_done = open.Done(), .slice = &slice, .slice_begin = open.begin, .line_in_slice = line}));
  }
}

absl::Status CutLine(const JsonLine& line, int64_t block_bytes, const BlockFunction& block) {
  TextField field;
  if (!nlohmann::json::sax_parse(line.json.begin(), line.json.end(), &field)) return line.Error(field.problem);
  if (!field.found) {
    return line.Error("has no field \"text\"; each line is a JSON object with a string field \"text\"");
  }
  return CutDocument(field.text, block_bytes, line.slice_done, block);
}

// What to write in place of a folder.
absl::Status FolderError(std::string folder) {
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  for (const char* files : {"/*.txt", "/*.txt.gz", "/*.txt.zst", "/*.jsonl", "/*.jsonl.gz", "/*.jsonl.zst", "/*"}) {
    const size_t found = Glob(folder + files).size();
    if (found == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("input: ", folder, ": a folder; name files, such as the ", found,
                                                   " of '", folder, files, "'"));
  }
  return absl::InvalidArgumentError(absl::StrCat("input: ", folder, ": a folder without a file; name files"));
}

}  // namespace

bool IsJsonLines(const std::string& path) {
  std::string name = path;
  for (const char* suffix : {".gz", ".zst"}) {
    if (absl::EndsWith(name, suffix)) name.resize(name.size() - std::strlen(suffix));
  }
  return absl::EndsWith(name, ".jsonl");
}

absl::Status JsonLine::Error(const std::string& what) const {
  const int64_t before = slice_begin == 0 ? 0 : LineAt(slice->path, slice_begin) - 1;
  return absl::InvalidArgumentError(absl::StrCat(slice->path, ": line ", before + line_in_slice, ": ", what));
}

absl::StatusOr<std::vector<std::string>> ExpandInputs(const std::vector<std::string>& inputs) {
  std::set<std::string> paths;
  for (const std::string& input : inputs) {
    struct stat info;
    if (stat(input.c_str(), &info) == 0) {
      if (S_ISDIR(info.st_mode)) return FolderError(input);
      paths.insert(input);
      continue;
    }
    std::string_view rest = input;
    std::vector<std::string> suffixes = {""};
    if (absl::EndsWith(input, {kOptionalSuffix.data(), kOptionalSuffix.size()})) {
      rest.remove_suffix(kOptionalSuffix.size());
      suffixes = {"", ".gz", ".zst"};
    }
    bool matched = false;
    std::string folder;
    while (true) {
      const size_t bar = rest.find('|');
      std::string pattern(rest.substr(0, bar));
      const size_t slash = pattern.rfind('/');
      if (slash == std::string::npos) {
        pattern = folder + pattern;
      } else {
        folder = pattern.substr(0, slash + 1);
      }
      for (const std::string& suffix : suffixes) {
        const std::string whole = pattern + suffix;
        const bool is_file = stat(whole.c_str(), &info) == 0;
        for (const std::string& path : is_file ? std::vector<std::string>{whole} : Glob(whole)) {
          paths.insert(path);
          matched = true;
        }
      }
      if (bar == std::string_view::npos) break;
      rest.remove_prefix(bar + 1);
    }
    if (!matched) {
      return absl::NotFoundError(absl::StrCat("input: ", input, ": ",
                                              HasWildcard(input) ? "matches no file" : "no such file",
                                              "; give .txt or .jsonl files (.gz, .zst)"));
    }
  }
  if (paths.empty()) return absl::InvalidArgumentError("input: none given; name at least one .txt or .jsonl file");
  return std::vector<std::string>(paths.begin(), paths.end());
}

absl::StatusOr<std::vector<TextSlice>> SliceInputs(const std::vector<std::string>& paths, int64_t slice_bytes) {
  CHECK_GE(slice_bytes, 1);
  std::vector<TextSlice> slices;
  for (const std::string& path : paths) {
    TREFOIL_ASSIGN_OR_RETURN(const int64_t size, FileSize(path));
    if (ByteSource::IsCompressed(path) || size <= slice_bytes) {
      slices.push_back({.path = path, .begin = 0, .end = size, .whole = true});
      continue;
    }
    for (int64_t begin = 0; begin < size; begin += slice_bytes) {
      slices.push_back({.path = path, .begin = begin, .end = std::min(size, begin + slice_bytes), .whole = false});
    }
  }
  return slices;
}

absl::Status ReadSlice(const TextSlice& slice, int64_t block_bytes, bool any_bytes, const BlockFunction& block) {
  CHECK_GE(block_bytes, 1);
  if (IsJsonLines(slice.path)) {
    return ReadJsonLines(slice, [&](const JsonLine& line) { return CutLine(line, block_bytes, block); });
  }
  TREFOIL_ASSIGN_OR_RETURN(OpenSlice open, Open(slice));
  if (open.source == nullptr) return absl::OkStatus();
  TextCheck check(slice.path);
  return ReadText(open, block_bytes, [&](const TextBlock& text) {
    const int64_t before = check.bad_bytes();
    const absl::Status is_text = check.Add(text.text, text.ends_document);
    if (!any_bytes) TREFOIL_RETURN_IF_ERROR(is_text);
    TextBlock checked = text;
    checked.bad_bytes = check.bad_bytes() - before;
    return block(checked);
  });
}

absl::Status ReadJsonLines(const TextSlice& slice, const std::function<absl::Status(const JsonLine&)>& line) {
  CHECK(IsJsonLines(slice.path)) << slice.path;
  TREFOIL_ASSIGN_OR_RETURN(OpenSlice open, Open(slice));
  return open.source == nullptr ? absl::OkStatus() : ReadLines(slice, open, line);
}

}  // namespace trefoil
