#include "runtime/op_journal.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace trefoil {
namespace {

struct Journal {
  static constexpr uint32_t kNames = 8;
  // The n-th name is at n % kNames. Each is released before `noted` counts it, so that who has read the count finds no
  // place empty, and the characters that a name points to are there.
  std::array<std::atomic<const char*>, kNames> names = {};
  std::atomic<uint32_t> noted = 0;

  std::string Text() const {
    std::string text;
    const uint32_t end = noted.load(std::memory_order_acquire);
    for (uint32_t n = end - std::min(end, kNames); n < end; ++n) {
      if (!text.empty()) text += ", ";
      text += names[n % kNames].load(std::memory_order_acquire);
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
  mine.names[n % Journal::kNames].store(name, std::memory_order_release);
  mine.noted.store(n + 1, std::memory_order_release);
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
