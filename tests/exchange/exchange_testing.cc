#include "tests/exchange/exchange_testing.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "model/model.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "training/config/validate.h"
#include "training/saving/resume.h"

namespace trefoil {

void FillModel(ForeignModel* foreign) {
  RunConfig config;
  *config.mutable_model() = foreign->model;
  TaskConfig::Kind kind;
  ASSERT_TRUE(TaskConfig::Kind_Parse(foreign->task, &kind));
  config.mutable_task()->set_kind(kind);
  FillDefaults(&config, 1, {});
  for (const std::string& line : Violations(config, 1)) EXPECT_FALSE(line.starts_with("model.")) << line;
  foreign->model = config.model();
}

ImportedRun Import(const std::string& folder, const std::string& run, int ranks) {
  FileSystem& fs = FileSystem::Posix();
  std::filesystem::remove_all(run);
  ImportedRun imported;
  RunRanksAsThreads(ranks, [&](World& world) {
    auto source = OpenImport(fs, folder, {});
    ASSERT_TRUE(source.ok()) << source.status();
    FillModel(&source->foreign);
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    const std::unique_ptr<Group> all = world.NewGroupOfAll(*device);
    CheckpointContent content;
    content.model = ModelText(source->foreign.model);
    content.owner = "import";
    ImportSummary summary;
    const absl::Status status = ImportWeights(fs, *all, *source, DeclareModel(source->foreign.model),
                                              run + "/checkpoints", content, nullptr, &summary);
    ASSERT_TRUE(status.ok()) << status;
    if (world.rank() == 0) imported = {CheckpointPath(run + "/checkpoints", 0), source->foreign, summary};
  });
  return imported;
}

void Export(const ImportedRun& run, const std::string& folder, int ranks, const ExportOptions& options) {
  FileSystem& fs = FileSystem::Posix();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  RunRanksAsThreads(ranks, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    const std::unique_ptr<Group> all = world.NewGroupOfAll(*device);
    const auto reader = CheckpointReader::Open(fs, run.checkpoint);
    ASSERT_TRUE(reader.ok()) << reader.status();
    ExportSummary summary;
    const absl::Status status = ExportModel(fs, *all, *reader, run.foreign, options, folder, nullptr, &summary);
    ASSERT_TRUE(status.ok()) << status;
  });
}

std::map<std::string, std::vector<uint32_t>> TensorsOf(const std::string& checkpoint) {
  const auto reader = CheckpointReader::Open(FileSystem::Posix(), checkpoint);
  EXPECT_TRUE(reader.ok()) << reader.status();
  std::map<std::string, std::vector<uint32_t>> tensors;
  for (const CheckpointReader::TensorInfo& info : reader->tensors()) {
    std::vector<uint32_t>& bits = tensors[info.name];
    bits.resize(static_cast<size_t>(info.shape.elements()));
    ShardedTensor target = {.name = info.name,
                            .dtype = info.dtype,
                            .global = info.shape,
                            .box = {.offset = info.shape, .extent = info.shape},
                            .data = reinterpret_cast<std::byte*>(bits.data())};
    for (int dim = 0; dim < info.shape.rank(); ++dim) target.box.offset[dim] = 0;
    EXPECT_TRUE(reader->Read(target).ok());
  }
  return tensors;
}

}  // namespace trefoil
