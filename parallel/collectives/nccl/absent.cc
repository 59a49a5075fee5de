// What a build without CUDA has in the place of nccl.cc.
#include "parallel/collectives/nccl/nccl.h"

namespace trefoil {

absl::StatusOr<std::unique_ptr<World>> NewNcclWorld(World&) {
  return absl::UnimplementedError("this program was built without NCCL; build it with --config=cuda");
}

}  // namespace trefoil
