#include "planner/report/ranks_picture.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <vector>

#include "parallel/mesh.h"
#include "planner/report/rank_share.h"
#include "planner/report/svg.h"

namespace trefoil {
namespace {

constexpr double kPanel = 46, kGap = 8, kBox = 4 * kPanel + 5 * kGap, kBoxHeight = kPanel + 34, kBetween = 10;
constexpr double kLeft = 20, kTop = 100;
constexpr char kFaint[] = "#666666", kFrame[] = "#bbbbbb", kGround[] = "#f2f2f2", kRows[] = "#5e3c99";

struct Panel {
  const char* name;
  const char* color;
};
constexpr Panel kPanels[] = {{"weights", "#1f5fa8"}, {"gradients", "#1d733a"}, {"optimizer", "#e69f00"}, {"batch", "#b2abd2"}};

// Ranks of a stage that are drawn, and how many beside each other; of more ranks the first two along each axis.
constexpr int kMostOfStage = 8, kColumns = 4, kMostStages = 8;

class Picture {
 public:
  explicit Picture(const RunConfig& config) : config_(config), sizes_(config.parallel()) {}

  std::string Draw() {
    svg_.Text(kLeft, 28, MeshText(config_.parallel()), {.size = 17, .bold = true});
    svg_.Text(kLeft, 50,
              "weights, gradients, optimizer state: layers from top to bottom, columns of a matrix from left to right, as kept "
              "from step to step",
              {.color = kFaint});
    svg_.Text(kLeft, 68, absl::StrCat("batch: samples from top to bottom, tokens from left to right",
                                      config_.parallel().sequence_parallel() ? "; dark, between the matrices" : ""),
              {.color = kFaint});
    const std::vector<int> ranks = DrawnRanks();
    const int stages = std::min(sizes_[Axis::kPipeline], kMostStages);
    const int of_stage = static_cast<int>(ranks.size()) / stages, columns = std::min(of_stage, kColumns);
    const int rows_of_stage = (of_stage + columns - 1) / columns;
    if (static_cast<int>(ranks.size()) < sizes_.ranks()) {
      svg_.Text(kLeft, 86, absl::StrCat(ranks.size(), " of ", sizes_.ranks(), " ranks are drawn, the first along each axis"),
                {.color = kFaint});
    }
    for (size_t i = 0; i < ranks.size(); ++i) {
      const int stage = static_cast<int>(i) / of_stage, place = static_cast<int>(i) % of_stage;
      const int row = stage * rows_of_stage + place / columns;
      DrawRank(ranks[i], kLeft + place % columns * (kBox + kBetween),
               kTop + row * (kBoxHeight + kBetween) + stage * kBetween);
    }
    return std::move(svg_).Finish(std::max(780.0, 2 * kLeft + columns * (kBox + kBetween)),
                                  kTop + stages * (rows_of_stage * (kBoxHeight + kBetween) + kBetween));
  }

 private:
  // Ascending: by stage, then by what is inside.
  std::vector<int> DrawnRanks() const {
    int inside = 1;
    for (const AxisEntry& axis : Axes()) inside *= axis.axis == Axis::kPipeline ? 1 : sizes_[axis.axis];
    const bool all = inside <= kMostOfStage;
    std::vector<int> ranks;
    for (int rank = 0; rank < sizes_.ranks(); ++rank) {
      const Mesh mesh(sizes_, rank);
      const bool drawn = std::all_of(Axes().begin(), Axes().end(), [&](const AxisEntry& axis) {
        return mesh.index(axis.axis) < (axis.axis == Axis::kPipeline ? kMostStages : all ? kMostOfStage : 2);
      });
      if (drawn) ranks.push_back(rank);
    }
    return ranks;
  }

  void DrawRank(int rank, double x, double y) {
    const Mesh mesh(sizes_, rank);
    std::vector<std::string> place;
    for (const AxisEntry& axis : Axes()) {
      if (sizes_[axis.axis] > 1) place.push_back(absl::StrCat(axis.name, " ", mesh.index(axis.axis)));
    }
    svg_.Rect(x, y, kBox, kBoxHeight, kFrame);
    svg_.Rect(x + 1, y + 1, kBox - 2, kBoxHeight - 2, "#ffffff");
    svg_.Text(x + kGap, y + 15, absl::StrCat("rank ", rank), {.size = 11, .bold = true});
    svg_.Text(x + kBox - kGap, y + 15, absl::StrJoin(place, ", "), {.size = 8, .anchor = "end", .color = kFaint});
    const RankShare share = ShareOf(config_, rank);
    double left = x + kGap;
    const double top = y + 21;
    for (const Panel& panel : kPanels) {
      svg_.Rect(left, top, kPanel, kPanel, kGround);
      svg_.Text(left + kPanel / 2, top + kPanel + 9, panel.name, {.size = 7.5, .anchor = "middle", .color = kFaint});
      left += kPanel + kGap;
    }
    left = x + kGap;
    const Part* kept[] = {&share.weights, &share.gradients, &share.optimizer};
    for (size_t i = 0; i < std::size(kept); ++i) {
      for (const Part& layers : share.layers) Fill(left, top, Within(share.columns, *kept[i]), layers, kPanels[i].color);
      left += kPanel + kGap;
    }
    for (const Part& tokens : share.tokens) {
      Fill(left, top, tokens, share.samples, kPanels[3].color);
      if (config_.parallel().sequence_parallel()) Fill(left, top, tokens, Within(share.samples, share.rows), kRows);
    }
  }

  static Part Within(const Part& whole, const Part& part) {
    return {whole.begin + part.begin * whole.length(), whole.begin + part.end * whole.length()};
  }

  void Fill(double left, double top, const Part& across, const Part& down, const char* color) {
    svg_.Rect(left + across.begin * kPanel, top + down.begin * kPanel, across.length() * kPanel, down.length() * kPanel,
              color);
  }

  const RunConfig& config_;
  const MeshSizes sizes_;
  Svg svg_;
};

}  // namespace

std::string RanksPicture(const RunConfig& config) { return Picture(config).Draw(); }

}  // namespace trefoil
