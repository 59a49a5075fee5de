#include "runtime/device.h"

#include "runtime/kernels.h"

namespace trefoil {

Device::Device(std::shared_ptr<Arena> arena, std::unique_ptr<Kernels> kernels)
    : arena_(std::move(arena)), kernels_(std::move(kernels)) {}

Device::~Device() = default;

MemoryUse Device::memory() const {
  MemoryUse use = arena_->use();
  use.compiled = kernels_->CompiledBytes();
  if (&host_arena() != arena_.get()) use.host = host_arena().use().peak_total;
  return use;
}

Tensor Device::Allocate(DType dtype, Shape shape, Purpose purpose) {
  Arena::Block block = arena_->Allocate(shape.elements() * static_cast<int64_t>(SizeOf(dtype)), purpose);
  return Tensor(std::move(block.owner), block.data, dtype, shape);
}

}  // namespace trefoil
