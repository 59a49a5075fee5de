// The same run over a fold of virtual stages, where the first stage has embedding and head and the last hands over to
// itself, with whole and with divided backwards, as on one stage: losses, gradients, the state after four steps.
#include <memory>

#include "tests/model/layout_testing.h"
#include "tests/parallel/fold_schedule.h"

namespace trefoil {
namespace {

constexpr int kSteps = 4;
constexpr char kModel[] = "model { layers: 7 } training { optimizer { clip_norm: 0 } } ";

NewWorker WithFold(bool divided) {
  return [=](const RunConfig& config, World& world, Device& device) {
    const int stages = config.parallel().pipeline();
    const int micro_batches =
        config.training().global_batch() / config.training().micro_batch() / config.parallel().data();
    const int stage = Mesh(MeshSizes(config.parallel()), world.rank()).index(Axis::kPipeline);
    auto worker = std::make_unique<Worker>(
        config, world, device, FoldOf(stages),
        FoldSchedule(stages, micro_batches, divided)[static_cast<size_t>(stage)]);
    EXPECT_EQ(worker->role.reads_inputs, stage == 0);
    EXPECT_EQ(worker->role.reads_targets, stage == 0);
    EXPECT_EQ(worker->role.makes_losses, stage == 0);
    EXPECT_TRUE(worker->tied.all().empty()) << "both modules are on stage 0";
    return worker;
  };
}

void ExpectFolds(ModelConfig::Family family, const std::string& more) {
  const Trace reference = Train(TinyRun(family, kModel + more), kSteps);
  for (const char* layout :
       {"parallel { pipeline: 2 }", "parallel { pipeline: 3 }", "parallel { pipeline: 2 data: 2 }",
        "parallel { tensor: 2 pipeline: 2 sequence_parallel: true recompute: FULL }"}) {
    for (const bool divided : {false, true}) {
      SCOPED_TRACE(std::string(layout) + (divided ? ", divided" : ""));
      ExpectSameRun(Train(TinyRun(family, kModel + more + layout), kSteps, /*source=*/{}, WithFold(divided)),
                    reference);
    }
  }
}

TEST(FoldTest, Gpt) { ExpectFolds(ModelConfig::GPT, "model { dropout: 0.2 } "); }
TEST(FoldTest, Llama) { ExpectFolds(ModelConfig::LLAMA, ""); }

}  // namespace
}  // namespace trefoil
