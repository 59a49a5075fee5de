#include "parallel/task_queue.h"

#include <utility>

namespace trefoil {

TaskQueue::TaskQueue(Device& device, std::shared_ptr<Patience> patience, bool threaded)
    : device_(device), patience_(std::move(patience)) {
  if (threaded) thread_ = std::thread([this] { Run(); });
}

TaskQueue::~TaskQueue() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

TaskQueue::Ticket TaskQueue::Start(std::function<void()> task) {
  ++started_;
  if (!thread_.joinable()) {
    if (observer) observer(true);
    task();
    if (observer) observer(false);
    return started_;
  }
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back({.run = std::move(task), .before = device_.MarkWork()});
  }
  changed_.notify_all();
  return started_;
}

void TaskQueue::Wait(Ticket ticket) {
  if (!thread_.joinable() || ticket == 0) return;
  const Waiting waiting(*patience_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_ >= ticket; });
  const Ticket first = done_ - static_cast<Ticket>(marks_.size()) + 1;  // of which a mark is left
  if (ticket < first) return;
  const auto number = static_cast<std::ptrdiff_t>(ticket - first);
  device_.WaitFor(marks_[static_cast<size_t>(number)]);
  marks_.erase(marks_.begin(), marks_.begin() + number + 1);
}

void TaskQueue::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
    if (stop_) return;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    device_.WaitFor(task.before);
    task.run();
    Device::Mark done = device_.MarkWork();
    lock.lock();
    marks_.push_back(std::move(done));
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace trefoil
