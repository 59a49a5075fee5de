// How often each word of a corpus occurs, as byte-level BPE cuts it: in bounded memory, by several threads.
//
//   WordCounter counter({.threads = 8});
//   for (...) counter.Add(text);
//   WordCounts counts = counter.Take();   // {{"It", 2}, {" is", 7}, ...}
//
// Words are cut by Llama 3's pattern (kWordPattern): letters with one sign or space before them, up to three digits,
// signs with the line ends after them, white space. Those of more than kLongestWord bytes are not counted. What is no
// UTF-8 is left out.
//
// When there are more than `most` words, those seen least are forgotten, down to half of that: as in lossy counting
// (Manku & Motwani, VLDB 2002) a word that is frequent anywhere in the corpus stays. Texts are counted in batches that
// do not depend on the threads, so that the counts do not either.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trefoil {

inline constexpr char kWordPattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Each word once, in the order of its bytes.
using WordCounts = std::vector<std::pair<std::string, int64_t>>;

class WordCounter {
 public:
  static constexpr size_t kLongestWord = 256;  // bytes

  struct Options {
    int threads = 1;
    size_t most = 2000000;                  // words, of some 100 bytes each with what the table takes
    size_t batch_bytes = size_t{16} << 20;  // of text that waits
  };

  explicit WordCounter(const Options& options);
  ~WordCounter();

  // One text, or a part of one that ends between words.
  void Add(std::string_view text);
  // What was counted; afterwards the counter is empty.
  WordCounts Take();

 private:
  class Tables;

  void CountBatch();

  const Options options_;
  std::vector<std::string> batch_;
  size_t batch_bytes_ = 0;
  std::unique_ptr<Tables> tables_;
};

}  // namespace trefoil
