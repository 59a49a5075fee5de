#include "data/tokens/json/word_counter.h"

#include <absl/container/flat_hash_map.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "data/text/utf8.h"
#include "data/tokens/json/pattern.h"
#include "data/tokens/json/regex.h"

namespace trefoil {
namespace {

constexpr size_t kShards = 64;

using Table = absl::flat_hash_map<std::string, int64_t>;
using Shards = std::array<Table, kShards>;

size_t ShardOf(std::string_view word) { return std::hash<std::string_view>()(word) % kShards; }

Regex CompiledPattern() {
  absl::StatusOr<Regex> regex = Regex::Compile(kWordPattern);
  CHECK(regex.ok()) << regex.status();
  return *std::move(regex);
}

void CountWords(const Regex& pattern, std::string_view text, Shards* counts) {
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, Utf8ValidBytes(text));
    ForEachPart(pattern, valid, [&](size_t begin, size_t end, bool) {
      if (end - begin > WordCounter::kLongestWord) return;
      const std::string_view word = valid.substr(begin, end - begin);
      Table& table = (*counts)[ShardOf(word)];
      const absl::string_view key(word.data(), word.size());
      if (const auto found = table.find(key); found != table.end()) {
        ++found->second;
      } else {
        table.emplace(key, 1);
      }
    });
    text.remove_prefix(std::min(text.size(), valid.size() + 1));
  }
}

// Calls work(thread, task) for every task, on as many threads.
void InParallel(int threads, size_t tasks, const std::function<void(int thread, size_t task)>& work) {
  std::atomic<size_t> next = 0;
  const auto run = [&](int thread) {
    for (size_t task = next++; task < tasks; task = next++) work(thread, task);
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (std::thread& thread : others) thread.join();
}

}  // namespace

// Words lie in shards by their hash, so that threads can add them up beside one another.
class WordCounter::Tables {
 public:
  explicit Tables(int threads) : of_threads_(threads) {
    for (int thread = 0; thread < threads; ++thread) patterns_.push_back(CompiledPattern());
  }

  void Count(const std::vector<std::string>& texts) {
    const int threads = static_cast<int>(of_threads_.size());
    InParallel(threads, texts.size(), [&](int thread, size_t text) {
      CountWords(patterns_[thread], texts[text], &of_threads_[thread]);
    });
    InParallel(threads, kShards, [&](int, size_t shard) {
      for (Shards& counted : of_threads_) {
        for (const auto& [word, count] : counted[shard]) all_[shard][word] += count;
        counted[shard].clear();
      }
    });
  }

  size_t size() const {
    size_t words = 0;
    for (const Table& table : all_) words += table.size();
    return words;
  }

  // Forgets the words seen least.
  void Shrink(size_t most) {
    for (int64_t least = 2; size() > most; least *= 2) {
      for (Table& table : all_) {
        absl::erase_if(table, [&](const auto& word) { return word.second < least; });
      }
    }
  }

  WordCounts Take() {
    WordCounts counts;
    counts.reserve(size());
    for (Table& table : all_) {
      for (const auto& [word, count] : table) counts.emplace_back(word, count);
      table = Table();
    }
    std::sort(counts.begin(), counts.end());
    return counts;
  }

 private:
  std::vector<Regex> patterns_;    // a thread's each
  std::vector<Shards> of_threads_;
  Shards all_;
};

WordCounter::WordCounter(const Options& options)
    : options_(options), tables_(std::make_unique<Tables>(options.threads)) {}
WordCounter::~WordCounter() = default;

void WordCounter::Add(std::string_view text) {
  batch_.emplace_back(text);
  batch_bytes_ += text.size();
  if (batch_bytes_ >= options_.batch_bytes) CountBatch();
}

void WordCounter::CountBatch() {
  tables_->Count(batch_);
  batch_.clear();
  batch_bytes_ = 0;
  if (tables_->size() > options_.most) tables_->Shrink(options_.most / 2);
}

WordCounts WordCounter::Take() {
  CountBatch();
  return tables_->Take();
}

}  // namespace trefoil
