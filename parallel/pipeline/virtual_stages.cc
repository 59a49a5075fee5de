#include "parallel/pipeline/virtual_stages.h"

#include <glog/logging.h>

#include "parallel/pipeline/schedule.h"

namespace trefoil {

VirtualStages::VirtualStages(Order order, int stages, int chunks) : order_(order), stages_(stages), chunks_(chunks) {
  CHECK_GE(stages, 1);
  CHECK_GE(chunks, 1);
}

VirtualStages::VirtualStages(ParallelConfig::Schedule kind, int stages, int chunks)
    : VirtualStages(EntryOf(kind).order, stages, chunks) {
  CHECK(EntryOf(kind).least_chunks <= chunks && chunks <= EntryOf(kind).most_chunks)
      << ParallelConfig::Schedule_Name(kind) << " with " << chunks << " chunks per stage";
}

VirtualStages::VirtualStages(const ParallelConfig& parallel)
    : VirtualStages(parallel.schedule(), parallel.pipeline(), parallel.chunks()) {}

int VirtualStages::Of(int stage, int chunk) const {
  CHECK(0 <= stage && stage < stages_ && 0 <= chunk && chunk < chunks_)
      << "chunk " << chunk << " of stage " << stage << ", of " << stages_ << " stages with " << chunks_ << " chunks";
  return chunk * stages_ + (Returns(chunk) ? stages_ - 1 - stage : stage);
}

int VirtualStages::StageOf(int virtual_stage) const {
  CHECK(0 <= virtual_stage && virtual_stage < size()) << "virtual stage " << virtual_stage << " of " << size();
  const int place = virtual_stage % stages_;
  return Returns(ChunkOf(virtual_stage)) ? stages_ - 1 - place : place;
}

int VirtualStages::ChunkOf(int virtual_stage) const { return virtual_stage / stages_; }

}  // namespace trefoil
