#include "tests/training/run_testing.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "data/tokens/token_file.h"
#include "runtime/random.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "training/config/validate.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

// A rank that waits this long hangs: the run aborts rather than the test times out.
constexpr double kPatience = 60;

constexpr char kTiny[] = R"(
  model { family: LLAMA layers: 4 hidden: 32 heads: 4 feed_forward: 64 vocabulary: 61 sequence_length: 16
          initial_deviation: 0.08 }
  training { steps: 20 global_batch: 8 precision: FP32 seed: 7
             optimizer { learning_rate: 3e-3 warmup_steps: 1 } checkpoint { writing: FOREGROUND } }
)";

std::string Prefix(const RunConfig& config, const char* name) {
  return std::filesystem::path(config.folder()).parent_path().string() + "/" + name;
}

}  // namespace

std::string NewFolder(const std::string& name) {
  std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(test.begin(), test.end(), '/', '_');
  const std::string folder = testing::TempDir() + "/" + test + "_" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

void WriteTokens(const std::string& prefix, std::span<const int32_t> ids, int64_t vocabulary) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, vocabulary);
  CHECK(writer.ok()) << writer.status();
  CHECK((*writer)->AddDocument(ids).ok());
  CHECK((*writer)->Finish().ok());
}

std::vector<int32_t> LearnableIds(int64_t count, int64_t vocabulary, uint64_t seed) {
  std::vector<int32_t> ids = {1};
  for (int64_t i = 1; i < count; ++i) {
    const auto random = Philox(seed, static_cast<uint64_t>(i));
    ids.push_back(static_cast<int32_t>((random[0] % 4 == 0 ? int64_t{random[1]} : ids.back() * 7 + 3) % vocabulary));
  }
  return ids;
}

RunConfig TinyRun(const std::string& folder, const std::string& more) {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString(kTiny, &config));
  config.set_folder(folder + "/run");
  config.mutable_data()->add_train(Prefix(config, "train"));
  config = With(config, more);
  WriteTokens(Prefix(config, "train"), LearnableIds(100 * 16 + 1, 61, 1), 61);
  WriteTokens(Prefix(config, "held_out"), LearnableIds(20 * 16 + 1, 61, 2), 61);
  return config;
}

RunConfig With(RunConfig config, const std::string& more) {
  CHECK(google::protobuf::TextFormat::MergeFromString(more, &config)) << more;
  const int ranks = RanksOf(config);
  FillDefaults(&config, ranks, {});
  for (const std::string& line : Violations(config, ranks)) LOG(FATAL) << line;
  return config;
}

int RanksOf(const RunConfig& config) {
  int ranks = 1;
  for (const AxisEntry& axis : Axes()) ranks *= std::max(1, (config.parallel().*axis.size)());
  return ranks;
}

RunOutcome RunTraining(const RunConfig& config, const std::function<void(int rank, RankRun&)>& change,
                       const std::vector<std::string>& hosts) {
  const auto ranks = static_cast<size_t>(RanksOf(config));
  std::vector<absl::Status> statuses(ranks);
  std::vector<RunEnd> ends(ranks, RunEnd::kFinished);
  std::ostringstream output;
  // A run of this process that crashed: its lock cannot be given back, and the process, which it names, lives on.
  FileSystem::Posix().Remove(config.folder() + "/lock").IgnoreError();
  ThreadRanks threads = TestThreads();
  threads.hosts = hosts;
  RunRanksAsThreads(static_cast<int>(ranks), [&](World& of_threads) {
    of_threads.set_timeout_seconds(kPatience);
    const TestWorld world(of_threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    RankRun run = {.world = *world, .config = config, .options = {.out = &output}};
    if (change) change(world->rank(), run);
    const absl::StatusOr<RunEnd> end = Train(run.config, run.own_world == nullptr ? *world : *run.own_world, *device, run.options);
    statuses[static_cast<size_t>(world->rank())] = end.status();
    if (end.ok()) ends[static_cast<size_t>(world->rank())] = *end;
  }, threads);
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]) << "ranks end with different statuses";
  for (const RunEnd end : ends) EXPECT_EQ(end, ends[0]) << "ranks end differently";
  return {.status = statuses[0], .end = ends[0], .output = output.str()};
}

RunOutcome RunAndStopAfter(const RunConfig& config, int steps) {
  return RunTraining(config, [&](int rank, RankRun& run) {
    if (rank != RanksOf(config) - 1) return;
    run.options.stop_requested = [asked = 0, steps]() mutable { return asked++ == steps; };
  });
}

std::vector<std::string> MetricLines(const RunConfig& config) {
  std::vector<std::string> lines;
  std::ifstream file(config.folder() + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    const auto number = [&](const char* name) {
      return json.contains(name) ? absl::StrFormat("%.17g", json[name].get<double>()) : std::string("-");
    };
    lines.push_back(absl::StrCat("step ", json["step"].get<int64_t>(), " loss ", number("loss"), " norm ",
                                 number("gradient_norm"), " rate ", number("learning_rate"), " tokens ",
                                 number("tokens"), " held ", number("held_out_loss")));
  }
  return lines;
}

std::vector<double> Losses(const RunConfig& config) {
  std::vector<double> losses;
  std::ifstream file(config.folder() + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    losses.push_back(nlohmann::json::parse(line)["loss"].get<double>());
    EXPECT_EQ(nlohmann::json::parse(line)["step"].get<size_t>(), losses.size());
  }
  return losses;
}

std::map<std::string, std::string> CheckpointContentOf(const RunConfig& config, int64_t step) {
  const std::string folder = CheckpointPath(CheckpointsFolder(config), step);
  const auto reader = CheckpointReader::Open(FileSystem::Posix(), folder);
  CHECK(reader.ok()) << reader.status();
  std::map<std::string, std::string> content = {{"trainer_state", reader->trainer_state()}};
  std::vector<ShardedTensor> targets;
  for (const CheckpointReader::TensorInfo& tensor : reader->tensors()) {
    ShardedTensor target = {.name = tensor.name, .dtype = tensor.dtype, .global = tensor.shape, .box = {}};
    target.box = {.offset = tensor.shape, .extent = tensor.shape};
    for (int i = 0; i < tensor.shape.rank(); ++i) target.box.offset[i] = 0;
    std::string& bytes = content[tensor.name];
    bytes.resize(static_cast<size_t>(target.bytes()));
    target.data = reinterpret_cast<std::byte*>(bytes.data());
    targets.push_back(target);
  }
  const absl::Status status = reader->Read(targets);
  CHECK(status.ok()) << status;
  return content;
}

int64_t NewestStep(const RunConfig& config) {
  const auto latest = LatestCheckpoint(FileSystem::Posix(), CheckpointsFolder(config));
  if (!latest.ok()) return -1;
  return std::stoll(latest->substr(latest->rfind('-') + 1));
}

void ExpectSameToTheBit(const RunConfig& a, const RunConfig& b, int64_t step) {
  EXPECT_EQ(MetricLines(a), MetricLines(b));
  EXPECT_FALSE(MetricLines(a).empty());
  const auto content = CheckpointContentOf(a, step), other = CheckpointContentOf(b, step);
  EXPECT_GT(content.size(), 3u);
  ASSERT_EQ(content.size(), other.size());
  for (const auto& [name, bytes] : content) EXPECT_TRUE(bytes == other.at(name)) << name << " differs";
}

}  // namespace trefoil
