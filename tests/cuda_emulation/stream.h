// Streams of the emulated GPU: each is a thread that does its work in order, so that work of different streams really runs
// side by side, as late or early as the machine likes. A stream that is being captured collects its work instead.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace trefoil::emulation {

// Queues `work` on a stream that cudaStreamCreateWithFlags made. The default stream is an error: ours always have names.
void Enqueue(cudaStream_t stream, std::function<void()> work);

// Waits until every stream has done what was queued before the call, as freeing memory does.
void DrainAll();

// Whether the calling thread has a capture under way, during which it may not ask for memory.
bool Capturing();

}  // namespace trefoil::emulation
