#include "launcher/inference_layout.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <string>
#include <vector>

#include "launcher/flags/layout.h"
#include "model/model_rules.h"
#include "runtime/config/nearest.h"
#include "runtime/config/rules.h"

namespace trefoil {
namespace {

// What of the model a layout does not divide, in the words of the flags.
std::vector<std::string> Broken(const ModelConfig& model, int tensor, int pipeline) {
  ParallelConfig parallel;
  parallel.set_tensor(tensor);
  parallel.set_pipeline(pipeline);
  parallel.set_context(1);
  parallel.set_data(1);
  parallel.set_chunks(1);
  Rules of_model, of_both;
  ParallelConfig one = parallel;
  one.set_tensor(1);
  one.set_pipeline(1);
  CheckModel(model, one, of_model);
  CheckModel(model, parallel, of_both);
  std::vector<std::string> lines;
  for (const std::string& line : of_both.lines()) {
    if (std::find(of_model.lines().begin(), of_model.lines().end(), line) != of_model.lines().end()) continue;
    lines.push_back(absl::StrReplaceAll(line, {{"parallel.tensor", "--tensor"},
                                               {"parallel.pipeline", "--pipeline"},
                                               {" x parallel.chunks 1", ""}}));
  }
  return lines;
}

// The largest size of the tensor axis that divides the ranks and that the model allows with what is left.
int MostTensor(const ModelConfig& model, int ranks) {
  for (int tensor = ranks; tensor > 1; --tensor) {
    if (ranks % tensor == 0 && Broken(model, tensor, ranks / tensor).empty()) return tensor;
  }
  return 1;
}

}  // namespace

absl::StatusOr<InferenceLayout> LayoutOfFlags(const ModelConfig& model, int ranks, Copies copies) {
  std::vector<std::string> lines;
  InferenceLayout layout = {.tensor = FLAGS_tensor, .pipeline = FLAGS_pipeline};
  const std::string precision = absl::AsciiStrToUpper(FLAGS_precision);
  if (precision == "BF16") {
    layout.precision = TrainingConfig::BF16;
  } else if (precision != "FP32") {
    lines.push_back(absl::StrCat("--precision: ", FLAGS_precision, ", must be FP32 or BF16"));
  }
  const auto check_size = [&](const char* flag, int* size) {
    if (*size >= 0) return;
    lines.push_back(absl::StrCat(flag, ": ", *size, ", must be at least 1, or 0; nearest legal: 1"));
    *size = 1;
  };
  check_size("--tensor", &layout.tensor);
  check_size("--pipeline", &layout.pipeline);
  int& tensor = layout.tensor;
  int& pipeline = layout.pipeline;
  if (copies == Copies::kAllowed) {
    tensor = std::max(tensor, 1);
    pipeline = std::max(pipeline, 1);
  } else if (tensor == 0 && pipeline == 0) {
    tensor = MostTensor(model, ranks);
    pipeline = ranks / tensor;
  } else if (tensor == 0) {
    tensor = std::max(1, ranks / pipeline);
  } else if (pipeline == 0) {
    pipeline = std::max(1, ranks / tensor);
  }
  const int64_t asked = int64_t{tensor} * pipeline;
  if (copies == Copies::kNone ? asked != ranks : ranks % asked != 0) {
    lines.push_back(absl::StrCat("--tensor x --pipeline: ", tensor, " x ", pipeline, " = ", asked, ", but there ",
                                 ranks == 1 ? "is 1 rank" : absl::StrCat("are ", ranks, " ranks"),
                                 copies == Copies::kNone
                                     ? absl::StrCat("; nearest legal: ", asked, " ranks (trefoil launch -n ", asked, " -- ...)")
                                     : absl::StrCat(", which it must divide; nearest legal: ", NearestMultiples(asked, ranks),
                                                    " ranks")));
  }
  for (std::string& line : Broken(model, tensor, pipeline)) lines.push_back(std::move(line));
  if (lines.empty()) return layout;
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace trefoil
