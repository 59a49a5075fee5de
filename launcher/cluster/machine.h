// What a rank computes on, and through what its tensors reach other ranks: what the commands that compute have in common.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<Machine> machine, OpenMachine(config, *mpi));
//   Worker worker(config, machine->world(), *machine->device);
#pragma once

#include <memory>

#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/host/peak.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

struct Machine {
  World& host;  // MPI
  std::unique_ptr<Device> device;
  std::unique_ptr<World> own_world;  // if tensors travel otherwise than through `host`
  World& world() const { return own_world != nullptr ? *own_world : host; }
};

// `config` is filled and legal. CPU: runtime.threads threads; else OMP_NUM_THREADS; else the host's cores shared among
// its ranks, or those that this rank is bound to, if fewer. CUDA: the GPU that launcher/cluster/gpu_choice.h says.
// Every rank calls this, and what one rank cannot have is every rank's error: more threads than the cores it is bound
// to; too few GPUs, none, one that lacks what training.precision needs, or a build without CUDA. `host` outlives the
// machine.
absl::StatusOr<std::unique_ptr<Machine>> OpenMachine(const RunConfig& config, World& host);

// The CPU device alone, for a program of one rank.
std::unique_ptr<Device> OpenCpu(const RuntimeConfig& runtime, int ranks_on_host);

// The sum of all ranks' rates, for runtime/host/peak.h. Every rank calls it as often.
Together SumOver(Group& all);

// FLOP/s at best of all ranks together, side by side: of the CPU in registers (runtime/host/peak.h); of a GPU in its
// largest matrix products, which is some tenths below the vendor's figure. The GPU's memory that it takes is given
// back, and the high-water marks of Device::memory() begin anew.
double MeasurePeak(Device& device, DType dtype, Group& all);

// FLOP/s of all ranks together by the data sheets of their GPUs, in the run's precision, for MFU. 0: some rank has none
// that is known.
double VendorPeak(const Device& device, TrainingConfig::Precision precision, Group& all);

// Bytes per second of this rank's share of the memory's bandwidth, measured as the peak is.
double MeasureBandwidth(Device& device, Group& all);

// Bytes that the tensors of any one rank may take: the least of all ranks' shares of what is available where they run, since
// hosts differ in memory and in ranks. Of a host's memory each of its ranks has an equal share; a GPU is one rank's.
double LeastShare(const Device& device, World& host);
// The same of the host's memory, whatever the device. Every rank calls it.
double HostShare(World& host);

}  // namespace trefoil
