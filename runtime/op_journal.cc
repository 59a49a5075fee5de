#include "runtime/op_journal.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace trefoil {
namespace {

struct Journal {
  static constexpr uint32_t kNames = 8;
  std::array<std::atomic<const char*>, kNames> names = {};  // the n-th at n % kNames
  std::atomic<uint32_t> noted = 0;

  std::string Text() const {
    std::string text;
    const uint32_t end = noted.load(std::memory_order_relaxed);
    for (uint32_t n = end - std::min(end, kNames); n < end; ++n) {
      if (!text.empty()) text += ", ";
      text += names[n % kNames].load(std::memory_order_relaxed);
    }
    return text;
  }
};

std::array<Journal, 32> journals;
std::atomic<uint32_t> threads = 0;

Journal& Mine() {
  thread_local Journal& mine = journals[threads.fetch_add(1, std::memory_order_relaxed) % journals.size()];
  return mine;
}

}  // namespace

void NoteOp(const char* name) {
  Journal& mine = Mine();
  const uint32_t n = mine.noted.load(std::memory_order_relaxed);
  mine.names[n % Journal::kNames].store(name, std::memory_order_relaxed);
  mine.noted.store(n + 1, std::memory_order_relaxed);
}

std::string LastOps() {
  const Journal& mine = Mine();
  std::string all;
  const auto add = [&](const char* by, const Journal& journal) {
    const std::string text = journal.Text();
    if (!text.empty()) all += (all.empty() ? "" : "; ") + std::string(by) + text;
  };
  add("by this thread ", mine);
  for (const Journal& journal : journals) {
    if (&journal != &mine) add("by another ", journal);
  }
  return all;
}

}  // namespace trefoil
