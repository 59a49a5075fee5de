#include "data/prefetcher.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace trefoil {

Prefetcher::Prefetcher(Read read, const ReadPlan& plan)
    : read_(std::move(read)), plan_(plan), thread_([this] { Run(); }) {
  CHECK(plan.count >= 1 && plan.batches >= 1 && plan.stride >= 1);
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Prefetcher::Request Prefetcher::Next() const {
  const int64_t first = step_first_ + batch_ * plan_.count;
  return {.first = first, .count = std::min(plan_.count, plan_.end - first)};
}

void Prefetcher::Advance() {
  if (++batch_ < plan_.batches) return;
  batch_ = 0;
  step_first_ += plan_.stride;
}

bool Prefetcher::MayRead() const {
  return step_first_ >= 0 && !failed_ && static_cast<int64_t>(held_.size()) < plan_.batches && Next().count > 0;
}

void Prefetcher::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || MayRead(); });
    if (stop_) return;
    const Request request = Next();
    const int64_t turn = turn_;
    lock.unlock();
    absl::StatusOr<Batch> batch = read_(request.first, request.count);
    lock.lock();
    if (turn != turn_) continue;
    failed_ = !batch.ok();
    held_.push_back({.request = request, .batch = std::move(batch)});
    Advance();
    changed_.notify_all();
  }
}

absl::StatusOr<Batch> Prefetcher::Get(int64_t first, int64_t count) {
  std::unique_lock lock(mutex_);
  const auto asked = [&](const Request& request) { return request.first == first && request.count == count; };
  const bool coming = held_.empty() ? step_first_ >= 0 && !failed_ && asked(Next()) : asked(held_.front().request);
  if (!coming) {
    held_.clear();
    failed_ = false;
    ++turn_;
    step_first_ = first;
    batch_ = 0;
    CHECK(asked(Next())) << count << " samples from " << first << " on, with the end at " << plan_.end;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return !held_.empty(); });
  absl::StatusOr<Batch> batch = std::move(held_.front().batch);
  held_.pop_front();
  changed_.notify_all();
  return batch;
}

}  // namespace trefoil
