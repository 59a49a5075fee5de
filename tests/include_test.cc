// Which room may look into which: reads every #include (and import of a proto) in the tree.
//
//   runtime <- parallel <- model <- training <- planner <- launcher;  data, checkpoint: used by training and launcher
//   exchange sees model, checkpoint, data, parallel, runtime, and is seen by launcher
//   data sees runtime; checkpoint sees parallel and runtime; model sees of data only data/batch.h
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace trefoil {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>>& Edges() {
  static const auto& edges = *new std::map<std::string, std::set<std::string>>{
      {"runtime", {"runtime"}},
      {"parallel", {"runtime", "parallel"}},
      {"model", {"runtime", "parallel", "model"}},
      {"data", {"runtime", "data"}},
      {"checkpoint", {"runtime", "parallel", "checkpoint"}},
      {"training", {"runtime", "parallel", "model", "data", "checkpoint", "training"}},
      {"exchange", {"runtime", "parallel", "model", "data", "checkpoint", "exchange"}},
      {"planner", {"runtime", "parallel", "model", "training", "planner"}},
      {"launcher",
       {"runtime", "parallel", "model", "data", "checkpoint", "training", "planner", "exchange", "launcher"}},
      {"tests",
       {"runtime", "parallel", "model", "data", "checkpoint", "training", "planner", "exchange", "launcher", "tests"}},
  };
  return edges;
}

std::string Room(const std::string& path) { return path.substr(0, path.find('/')); }

// The path in `#include "path"` or `import "path"`.
std::optional<std::string> Included(const std::string& line) {
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos) return std::nullopt;
  const std::string text = line.substr(begin);
  if (!text.starts_with("#include \"") && !text.starts_with("import \"")) return std::nullopt;
  const size_t quote = text.find('"');
  return text.substr(quote + 1, text.find('"', quote + 1) - quote - 1);
}

// What is wrong with `line` in the file `path` (from the root); empty if nothing.
std::string Problem(const std::string& path, const std::string& line) {
  const auto included = Included(line);
  if (!included) return "";
  const std::string from = Room(path), to = Room(*included);
  if (!Edges().contains(to)) return "includes go by the path from the root";
  if (from == "model" && *included == "data/batch.h") return "";
  const bool proto = path.ends_with(".proto");
  const bool gathers = path == "training/run.proto" || path == "training/trainer_state.proto";
  if (proto && from != to && !gathers) return "only training's run and trainer_state import other rooms' protos";
  if (Edges().at(from).contains(to)) return "";
  return from + " must not see " + to;
}

TEST(IncludeTest, KnowsAForbiddenEdge) {
  EXPECT_EQ(Problem("runtime/tensor.h", "#include \"parallel/mesh.h\""), "runtime must not see parallel");
  EXPECT_EQ(Problem("parallel/pipeline/stage.h", "#include \"model/block.h\""), "parallel must not see model");
  EXPECT_EQ(Problem("model/layers/norm.cc", "  #include \"data/tokens/loader.h\""), "model must not see data");
  EXPECT_EQ(Problem("model/block.h", "#include \"data/batch.h\""), "");
  EXPECT_EQ(Problem("data/tokens/loader.h", "#include \"parallel/mesh.h\""), "data must not see parallel");
  EXPECT_EQ(Problem("checkpoint/writer.cc", "#include \"training/step.h\""), "checkpoint must not see training");
  EXPECT_EQ(Problem("training/worker.cc", "#include \"launcher/config/config.h\""), "training must not see launcher");
  EXPECT_EQ(Problem("training/trainer.cc", "#include \"planner/plan.h\""), "training must not see planner");
  EXPECT_EQ(Problem("planner/plan.cc", "#include \"launcher/help.h\""), "planner must not see launcher");
  EXPECT_EQ(Problem("launcher/main.cc", "#include \"tests/fixture.h\""), "launcher must not see tests");
  EXPECT_EQ(Problem("launcher/main.cc", "#include \"config.h\""), "includes go by the path from the root");
  EXPECT_EQ(Problem("model/model.proto", "import \"data/data.proto\";"),
            "only training's run and trainer_state import other rooms' protos");
  EXPECT_EQ(Problem("training/run.proto", "import \"data/data.proto\";"), "");
  EXPECT_EQ(Problem("runtime/tensor.h", "#include <vector>"), "");
  EXPECT_EQ(Problem("runtime/tensor.h", "// text"), "");
}

TEST(IncludeTest, TheTreeHasNone) {
  // The checkout itself, through Bazel's link to this file: a new file counts without a word in a BUILD file.
  const fs::path root = fs::canonical("tests/include_test.cc").parent_path().parent_path();
  const std::set<std::string> kinds = {".h", ".cc", ".cu", ".cuh", ".proto"};
  std::vector<std::string> problems;
  int files = 0;
  for (const auto& [room, unused] : Edges()) {
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      if (!entry.is_regular_file() || !kinds.contains(entry.path().extension())) continue;
      ++files;
      const std::string path = fs::relative(entry.path(), root).string();
      std::ifstream file(entry.path());
      int number = 0;
      for (std::string line; std::getline(file, line);) {
        ++number;
        const std::string problem = Problem(path, line);
        if (problem.empty()) continue;
        problems.push_back(path + ":" + std::to_string(number) + ": " + line + "  (" + problem + ")");
      }
    }
  }
  EXPECT_GT(files, 50);
  std::sort(problems.begin(), problems.end());
  for (const std::string& problem : problems) ADD_FAILURE() << problem;
}

}  // namespace
}  // namespace trefoil
