#include "parallel/collectives/mpi_progress.h"

#include <algorithm>

namespace trefoil {

MpiProgress::~MpiProgress() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MpiProgress::Watch(Transport::Message& message) {
  {
    std::lock_guard lock(mutex_);
    messages_.push_back(&message);
    last_change_ = Transport::Clock::now();
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  }
  changed_.notify_all();
}

void MpiProgress::Forget(Transport::Message& message) {
  std::lock_guard lock(mutex_);
  std::erase(messages_, &message);
}

void MpiProgress::Run() {
  using std::chrono::microseconds;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !messages_.empty(); });
    if (stop_) return;
    if (std::erase_if(messages_, [](Transport::Message* message) { return message->Done(); }) > 0) {
      last_change_ = Transport::Clock::now();
    }
    if (messages_.empty()) continue;
    const auto waited = std::chrono::duration_cast<microseconds>(Transport::Clock::now() - last_change_);
    const auto pause = std::clamp(waited / 16, microseconds(100), microseconds(1000));
    lock.unlock();
    std::this_thread::sleep_for(pause);
    lock.lock();
  }
}

}  // namespace trefoil
