#include "tests/cuda_emulation/block.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>

namespace trefoil::emulation {
namespace {

// Goes on with the stack `to`, where an earlier call left off, and keeps the own one in *from. ucontext does the same but
// asks the system for the signal mask each time, which made up half of the time of a kernel with many barriers.
extern "C" void TrefoilSwitchStack(void** from, void* to);
asm(R"(
.text
.type TrefoilSwitchStack, @function
TrefoilSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size TrefoilSwitchStack, .-TrefoilSwitchStack
)");
constexpr int kSavedRegisters = 6;

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kMostSharedBytes = 227 << 10;  // of one block on sm_90

struct Warp {
  WarpData data[2];  // by turns: a lane that is late reads one while others fill the next
  int turn = 0;
  int live = 0, waiting = 0;
  Together together = nullptr;
  std::vector<struct Fiber*> waiters;
};

struct Fiber {
  void* stack = nullptr;  // where it left off
  ThreadState state;
  Warp* warp = nullptr;
  int lane = 0;
};

// Runs the blocks of one OS thread. A fiber that finishes a CUDA thread goes on with the next that has not begun, so that
// kernels whose threads never wait need a single fiber.
class Runner {
 public:
  void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
    grid_ = grid;
    block_dim_ = block;
    thread_ = &thread;
    shared_.assign(shared_bytes / sizeof(uint4) + 1, uint4{~0u, ~0u, ~0u, ~0u});
    const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
    std::vector<int64_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    for (const int64_t number : order) {
      block_ = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                static_cast<unsigned>(number / grid.x / grid.y)};
      std::memset(shared_.data(), 0xff, shared_.size() * sizeof(uint4));
      RunBlock();
    }
  }

  Fiber& current() { return *current_; }
  void* shared() { return shared_.data(); }

  void SyncThreads() {
    at_barrier_.push_back(current_);
    if (ReleaseBarrier()) return;
    SwitchToScheduler();
  }

  void WarpTogether(const void* in, size_t in_bytes, Together together, void* out, size_t out_bytes) {
    Fiber& me = *current_;
    Warp& warp = *me.warp;
    CHECK(warp.waiting == 0 || warp.together == together) << "lanes of a warp meet in different instructions";
    warp.together = together;
    const int turn = warp.turn;
    std::memcpy(warp.data[turn].in[me.lane], in, in_bytes);
    ++warp.waiting;
    warp.waiters.push_back(&me);
    if (!ReleaseWarp(warp)) SwitchToScheduler();
    std::memcpy(out, warp.data[turn].out[me.lane], out_bytes);
  }

 private:
  void RunBlock() {
    const int threads = static_cast<int>(block_dim_.x * block_dim_.y * block_dim_.z);
    order_.resize(threads);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), random_);
    next_ = 0;
    live_ = threads;
    warps_.assign((threads + 31) / 32, {});
    for (int i = 0; i < threads; ++i) {
      ++warps_[i / 32].live;
      for (WarpData& data : warps_[i / 32].data) data.present[i % 32] = true;
    }
    while (live_ > 0) {
      if (!ready_.empty()) {
        const size_t at = random_() % ready_.size();
        std::swap(ready_[at], ready_.back());
        current_ = ready_.back();
        ready_.pop_back();
      } else {
        CHECK_LT(next_, threads) << "a kernel hangs: " << at_barrier_.size() << " of " << live_
                                 << " threads wait at a barrier of the block, the others for their warp";
        current_ = IdleFiber();
      }
      TrefoilSwitchStack(&scheduler_, current_->stack);
    }
  }

  Fiber* IdleFiber() {
    if (idle_.empty()) {
      auto fiber = std::make_unique<Fiber>();
      auto* const memory = static_cast<char*>(
          mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
      CHECK(memory != MAP_FAILED);
      // As if Main had been called with an aligned stack: its address, and above it a return address of zero.
      auto** const top = reinterpret_cast<void**>(memory + kStackBytes) - 2;
      *top = reinterpret_cast<void*>(&Main);
      fiber->stack = top - kSavedRegisters;
      idle_.push_back(fiber.get());
      fibers_.push_back(std::move(fiber));
    }
    Fiber* const fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }

  static void Main();

  void Loop(Fiber& me) {
    while (true) {
      while (next_ < static_cast<int>(order_.size())) {
        Begin(me, order_[next_++]);
        (*thread_)();
        End(me);
      }
      idle_.push_back(&me);
      SwitchToScheduler();
    }
  }

  void Begin(Fiber& me, int number) {
    const auto n = static_cast<unsigned>(number);
    me.state.thread = {n % block_dim_.x, n / block_dim_.x % block_dim_.y, n / block_dim_.x / block_dim_.y};
    me.state.block = block_;
    me.state.block_dim = block_dim_;
    me.state.grid_dim = grid_;
    me.state.open_copies.clear();
    me.state.copy_groups.clear();
    me.warp = &warps_[number / 32];
    me.lane = number % 32;
  }

  // Those that are left may have waited for this thread alone.
  void End(Fiber& me) {
    --live_;
    Warp& warp = *me.warp;
    --warp.live;
    for (WarpData& data : warp.data) data.present[me.lane] = false;
    if (warp.waiting > 0) ReleaseWarp(warp);
    if (!at_barrier_.empty()) ReleaseBarrier();
  }

  // Both release if all have come: the calling fiber, if it is one of them, simply goes on.
  bool ReleaseBarrier() {
    if (static_cast<int>(at_barrier_.size()) < live_) return false;
    Release(at_barrier_);
    return true;
  }
  bool ReleaseWarp(Warp& warp) {
    if (warp.waiting < warp.live) return false;
    warp.together(warp.data[warp.turn]);
    warp.turn = 1 - warp.turn;
    warp.waiting = 0;
    Release(warp.waiters);
    return true;
  }
  void Release(std::vector<Fiber*>& waiters) {
    for (Fiber* waiter : waiters) {
      if (waiter != current_) ready_.push_back(waiter);
    }
    waiters.clear();
  }

  void SwitchToScheduler() { TrefoilSwitchStack(&current_->stack, scheduler_); }

  static uint64_t Seed() {
    const char* seed = std::getenv("TREFOIL_EMULATION_SEED");
    return seed == nullptr ? std::random_device()() : std::strtoull(seed, nullptr, 10);
  }

  std::mt19937_64 random_{Seed()};
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_, ready_, at_barrier_;
  Fiber* current_ = nullptr;
  void* scheduler_ = nullptr;  // the stack of RunBlock

  dim3 grid_, block_dim_;
  uint3 block_ = {};
  const std::function<void()>* thread_ = nullptr;
  std::vector<uint4> shared_;
  std::vector<int> order_;
  std::vector<Warp> warps_;
  int next_ = 0, live_ = 0;
};

// Leaked: fibers' stacks may be in use until the process ends.
Runner& Mine() {
  static thread_local auto* const runner = new Runner;
  return *runner;
}

void Runner::Main() {
  Runner& runner = Mine();
  runner.Loop(*runner.current_);
}

}  // namespace

ThreadState& Current() { return Mine().current().state; }

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  CHECK(threads >= 1 && threads <= 1024 && block.z <= 64) << "a block of " << threads << " threads";
  CHECK(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535)
      << "a grid of " << grid.x << " x " << grid.y << " x " << grid.z;
  CHECK_LE(shared_bytes, kMostSharedBytes);
  Mine().RunGrid(grid, block, shared_bytes, thread);
}

void* BlockMemory() { return Mine().shared(); }
void SyncThreads() { Mine().SyncThreads(); }
void WarpTogether(const void* in, size_t in_bytes, Together together, void* out, size_t out_bytes) {
  Mine().WarpTogether(in, in_bytes, together, out, out_bytes);
}

}  // namespace trefoil::emulation
