// TimelinePicture of planner/report/timeline.h. From top to bottom: title, what the step amounts to, legend, a row of
// boxes for each stage, an axis of time, memory with its own legend, the axis again.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "planner/report/svg.h"
#include "planner/report/timeline.h"
#include "planner/report/timeline_columns.h"

namespace trefoil {
namespace {

constexpr double kWidth = 1000, kLeft = 74, kRight = 980, kMemoryHeight = 170;
constexpr double kColumn = 2;         // pixels of time that share a colour where boxes are too narrow
constexpr size_t kMostBoxes = 20000;  // some 1.2 MB
constexpr size_t kMostHovers = 5000;
constexpr char kFaint[] = "#666666", kGrid[] = "#e2e2e2", kFrame[] = "#bbbbbb", kLimit[] = "#c00000";

using Color = std::array<int, 3>;

Color Mix(const Color& a, const Color& b, double share) {
  Color mixed;
  for (size_t i = 0; i < 3; ++i) mixed[i] = static_cast<int>(std::lround(a[i] + share * (b[i] - a[i])));
  return mixed;
}

std::string Hex(const Color& color) { return absl::StrFormat("#%02x%02x%02x", color[0], color[1], color[2]); }

// F blue, B and I green, W light green; the more chunks a stage has, the finer the shades from the first to the last.
enum Layer : size_t { kForward, kBackward, kInput, kWeight, kFirstExtra };
struct Shades {
  Color first, last;
};
constexpr Shades kShades[] = {{{31, 95, 168}, {142, 190, 235}}, {{29, 115, 58}, {92, 172, 112}},
                              {{29, 115, 58}, {92, 172, 112}}, {{163, 217, 165}, {211, 238, 211}}};
constexpr const char* kLayerNames[] = {"F forward", "B backward", "I backward, inputs", "W backward, weights"};
// Of extras, in the order of their first appearance.
constexpr Color kExtraColors[] = {{230, 159, 0}, {176, 122, 161}, {209, 97, 93}, {121, 112, 110}};

Color BoxColor(Layer layer, int chunk, int chunks) {
  if (layer >= kFirstExtra) return kExtraColors[(layer - kFirstExtra) % std::size(kExtraColors)];
  const double share = chunks == 1 ? 0 : static_cast<double>(chunk) / (chunks - 1);
  return Mix(kShades[layer].first, kShades[layer].last, share);
}

// Of stage `s` in the memory panel: purple, red, orange.
std::string StageColor(size_t s, size_t stages) {
  constexpr Color kRamp[] = {{40, 10, 140}, {140, 15, 165}, {215, 75, 105}, {245, 165, 45}};
  const double at = stages == 1 ? 0 : 3.0 * static_cast<double>(s) / static_cast<double>(stages - 1);
  const size_t from = std::min<size_t>(2, static_cast<size_t>(at));
  return Hex(Mix(kRamp[from], kRamp[from + 1], at - static_cast<double>(from)));
}

std::string TwoDigits(double x) {
  return absl::StrFormat("%.*f", x >= 100 ? 0 : x >= 10 ? 1 : 2, x);
}

// The largest of the units in which `most` is at least `enough`; the last if none.
struct Unit {
  const char* name;
  double size;
};
const Unit& TimeUnit(double seconds, double enough) {
  static constexpr Unit kUnits[] = {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}};
  for (const Unit& unit : kUnits) {
    if (seconds >= enough * unit.size) return unit;
  }
  return kUnits[2];
}
const Unit& MemoryUnit(double bytes, double enough) {
  static constexpr Unit kUnits[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}};
  for (const Unit& unit : kUnits) {
    if (bytes >= enough * unit.size) return unit;
  }
  return kUnits[2];
}
std::string Seconds(double seconds) {
  const Unit& unit = TimeUnit(seconds, 1);
  return absl::StrCat(TwoDigits(seconds / unit.size), " ", unit.name);
}
std::string Bytes(double bytes) {
  const Unit& unit = MemoryUnit(bytes, 1);
  return absl::StrCat(TwoDigits(bytes / unit.size), " ", unit.name);
}

// What a stage computes from when to when.
struct Box {
  Layer layer = kForward;
  int micro_batch = 0, chunk = 0;
  Span span;
};

class Picture {
 public:
  explicit Picture(const Timeline& timeline) : timeline_(timeline), stages_(timeline.stages.size()) {
    CHECK_GT(stages_, 0u);
    for (const Timeline::Stage& stage : timeline.stages) boxes_.push_back(Boxes(stage));
    step_ = timeline.step_seconds;
    for (size_t s = 0; s < stages_; ++s) {
      for (const Box& box : boxes_[s]) step_ = std::max(step_, box.span.end);
      for (const Timeline::MemoryPoint& point : timeline.stages[s].memory) {
        most_memory_ = std::max(most_memory_, static_cast<double>(point.bytes));
      }
    }
    if (step_ <= 0) step_ = 1e-6;  // nothing happens; still a picture
    row_ = std::clamp(std::floor(520.0 / static_cast<double>(stages_)), 3.0, 30.0);
  }

  std::string Draw() {
    const double letters = static_cast<double>(std::max<size_t>(1, timeline_.title.size()));
    const double size = std::clamp((kRight - kLeft) / letters / 0.65, 8.0, 17.0);
    svg_.Text(kLeft, 26, timeline_.title, {.size = size, .bold = true});
    svg_.Text(kLeft, 46, Summary(), {.size = 13, .color = kFaint});
    Measure();
    const bool boxes = count_ <= kMostBoxes && box_width_ >= 1;
    const double top = Legend(60, boxes) + 16, bottom = top + row_ * static_cast<double>(stages_);
    // Ground of the rows: between them it shows as a thin line, within them idle time is white.
    const double gap = row_ >= 12 ? 3 : row_ >= 5 ? 1 : 0.5;
    svg_.Rect(kLeft, top - gap, kRight - kLeft, bottom - top + gap, kGrid);
    for (size_t s = 0; s < stages_; ++s) {
      const double y = top + row_ * static_cast<double>(s);
      svg_.Rect(kLeft, y, kRight - kLeft, row_ - gap, "#ffffff");
      boxes ? DrawBoxes(s, y, row_ - gap) : DrawColumns(s, y, row_ - gap);
    }
    RowLabels(top, gap);
    TimeAxis(bottom);
    double end = bottom + 24;
    if (most_memory_ > 0) {
      Memory(end + 40);
      end += 40 + kMemoryHeight + 24;
    }
    return std::move(svg_).Finish(kWidth, end + 10);
  }

 private:
  std::vector<Box> Boxes(const Timeline::Stage& stage) {
    CHECK_EQ(stage.actions.size(), stage.spans.size());
    std::vector<Box> boxes;
    for (size_t i = 0; i < stage.actions.size(); ++i) {
      const Action& action = stage.actions[i];
      Layer layer;
      switch (action.kind) {
        case ActionKind::kForward: layer = kForward; break;
        case ActionKind::kBackward: layer = kBackward; break;
        case ActionKind::kBackwardInput: layer = kInput; break;
        case ActionKind::kBackwardWeight: layer = kWeight; break;
        default: continue;
      }
      boxes.push_back({layer, action.micro_batch, action.chunk, stage.spans[i]});
      layers_.insert(layer);
    }
    for (const Timeline::Extra& extra : stage.extras) {
      const size_t number = std::find(extras_.begin(), extras_.end(), extra.name) - extras_.begin();
      if (number == extras_.size()) extras_.push_back(extra.name);
      boxes.push_back({static_cast<Layer>(kFirstExtra + number), 0, 0, extra.span});
    }
    return boxes;
  }

  double X(double seconds) const { return kLeft + seconds / step_ * (kRight - kLeft); }

  // How many boxes there are, and how wide is the middle one.
  void Measure() {
    std::vector<double> widths;
    for (const auto& boxes : boxes_) {
      for (const Box& box : boxes) {
        if (box.span.end > box.span.begin) widths.push_back(X(box.span.end) - X(box.span.begin));
      }
    }
    count_ = widths.size();
    if (widths.empty()) return;
    const auto middle = widths.begin() + static_cast<std::ptrdiff_t>(widths.size() / 2);
    std::nth_element(widths.begin(), middle, widths.end());
    box_width_ = *middle;
  }

  std::string Summary() const {
    std::vector<double> busy;
    for (const auto& boxes : boxes_) {
      double seconds = 0;
      for (const Box& box : boxes) seconds += box.span.end - box.span.begin;
      busy.push_back(seconds / step_);
    }
    double mean = 0;
    for (const double share : busy) mean += share / static_cast<double>(stages_);
    const auto [least, most] = std::minmax_element(busy.begin(), busy.end());
    std::string text = absl::StrFormat("step %s; stages are busy %.1f%% of it", Seconds(step_), 100 * mean);
    if (stages_ > 1) {
      absl::StrAppendFormat(&text, " on average: stage %d %.1f%%, stage %d %.1f%%", least - busy.begin(), 100 * *least,
                            most - busy.begin(), 100 * *most);
    }
    return text;
  }

  std::string ColorOf(Layer layer, int chunk) const {
    return Hex(BoxColor(layer, chunk, timeline_.chunks));
  }

  // From y on, in as many lines as it needs; where it ends.
  double Legend(double y, bool boxes) {
    double x = kLeft;
    auto entry = [&](const std::vector<std::string>& colors, absl::string_view name) {
      const double width = 22 / static_cast<double>(colors.size());
      const double name_width = 6.7 * static_cast<double>(name.size());
      if (x + 28 + name_width > kRight + 8 && x > kLeft) {  // letters are wider in some fonts than in others
        x = kLeft;
        y += 20;
      }
      svg_.Rect(x - 0.7, y - 0.7, 23.4, 13.4, kFrame);
      for (size_t i = 0; i < colors.size(); ++i) {
        svg_.Rect(x + width * static_cast<double>(i), y, width, 12, colors[i]);
      }
      svg_.Text(x + 28, y + 10.5, name);
      x += 28 + name_width + 16;
    };
    for (const Layer layer : layers_) {
      std::vector<std::string> colors;
      for (int chunk = 0; chunk < (boxes ? timeline_.chunks : 1); ++chunk) colors.push_back(ColorOf(layer, chunk));
      entry(colors, kLayerNames[layer]);
    }
    for (size_t i = 0; i < extras_.size(); ++i) entry({ColorOf(static_cast<Layer>(kFirstExtra + i), 0)}, extras_[i]);
    if (!boxes) {
      Color mixed = {};
      std::string letters;
      double mixed_layers = 0;
      for (const Layer layer : layers_) {
        mixed = Mix(mixed, kShades[layer].first, 1 / ++mixed_layers);
        absl::StrAppend(&letters, letters.empty() ? "" : ", ", absl::string_view(kLayerNames[layer], 1));
      }
      entry({Hex(mixed)}, letters + " by turns");
    }
    entry({"#ffffff"}, "idle");
    std::string note;
    if (!boxes) {
      note = absl::StrCat("colours mixed by share of each ", Seconds(step_ * kColumn / (kRight - kLeft)));
    } else if (timeline_.chunks > 1) {
      note = absl::StrCat("darkest: chunk 0 of ", timeline_.chunks);
    }
    svg_.Text(kRight, 46, note, {.anchor = "end", .color = kFaint});
    return y + 12;
  }

  void DrawBoxes(size_t s, double y, double height) {
    const double size = std::min(12.0, std::floor(height) - 1);
    const std::vector<Box>& boxes = boxes_[s];
    auto fits = [&](const std::string& text, double width) {
      return size >= 7 && width >= 0.6 * size * static_cast<double>(text.size()) + 2;
    };
    for (size_t i = 0; i < boxes.size(); ++i) {
      const Box& box = boxes[i];
      const double x = X(box.span.begin), width = X(box.span.end) - x;
      const bool extra = box.layer >= kFirstExtra;
      std::string hover;
      if (count_ <= kMostHovers) {
        hover = absl::StrCat("stage ", s, ": ");
        if (extra) {
          hover += extras_[box.layer - kFirstExtra];
        } else {
          absl::StrAppend(&hover, absl::string_view(kLayerNames[box.layer], 1), box.micro_batch);
          if (timeline_.chunks > 1) absl::StrAppend(&hover, " of chunk ", box.chunk);
        }
        absl::StrAppend(&hover, ", ", Seconds(box.span.begin), " to ", Seconds(box.span.end));
      }
      svg_.Rect(x, y, width, height, ColorOf(box.layer, box.chunk), hover);
      // A thin white line sets boxes of one colour apart.
      if (width > 4) svg_.Rect(x, y, 0.6, height, "#ffffff");
      if (extra) continue;
      const std::string number = absl::StrCat(box.micro_batch);
      const bool dark = box.layer == kBackward || box.layer == kInput ||
                        (box.layer == kForward && 2 * box.chunk <= timeline_.chunks - 1);
      if (fits(number, width)) {
        svg_.Text(x + width / 2, y + height / 2 + 0.36 * size, number,
                  {.size = size, .anchor = "middle", .color = dark ? "#ffffff" : "#222222"});
      }
    }
  }

  // Columns of one colour each, mixed of what its time went to; idle counts as white.
  void DrawColumns(size_t s, double y, double height) {
    const size_t columns = static_cast<size_t>((kRight - kLeft) / kColumn), layers = kFirstExtra + extras_.size();
    std::vector<std::vector<double>> share(layers, std::vector<double>(columns));
    for (const Box& box : boxes_[s]) {
      const double begin = (X(box.span.begin) - kLeft) / kColumn, end = (X(box.span.end) - kLeft) / kColumn;
      for (size_t c = static_cast<size_t>(begin); c < columns && static_cast<double>(c) < end; ++c) {
        const auto left = static_cast<double>(c);
        share[box.layer][c] += std::max(0.0, std::min(end, left + 1) - std::max(begin, left));
      }
    }
    // A column sees a whole number of micro-batches and a part of one more, and the parts would show as a pattern:
    // averaged over some micro-batches it is gone.
    const auto reach = static_cast<int>(std::ceil(3 * box_width_ / kColumn));
    for (const Layer layer : layers_) {
      share[layer] = NeighbourMeans(NeighbourMeans(share[layer], reach), reach);
    }
    std::vector<Color> colors(columns);
    for (size_t c = 0; c < columns; ++c) {
      std::array<double, 3> mixed = {255, 255, 255};
      double left = 1;
      for (size_t layer = layers; layer-- > 0;) {
        const Color of = BoxColor(static_cast<Layer>(layer), 0, 1);
        const double part = std::min(left, std::round(16 * share[layer][c]) / 16);  // equal neighbours become one
        left -= part;
        for (size_t i = 0; i < 3; ++i) mixed[i] += part * (of[i] - 255);
      }
      for (size_t i = 0; i < 3; ++i) colors[c][i] = std::clamp(static_cast<int>(std::lround(mixed[i])), 0, 255);
    }
    for (size_t c = 0, next; c < columns; c = next) {
      for (next = c + 1; next < columns && colors[next] == colors[c];) ++next;
      if (colors[c] == Color{255, 255, 255}) continue;
      const double x = kLeft + kColumn * static_cast<double>(c);
      svg_.Rect(x, y, kColumn * static_cast<double>(next - c), height, Hex(colors[c]));
    }
  }

  void RowLabels(double top, double gap) {
    size_t every = 1;
    while (row_ < 15 && static_cast<double>(every) * row_ < 24) every *= 2;
    const double size = std::min(12.0, std::max(10.0, row_ - 2));
    for (size_t s = 0; s < stages_; s += every) {
      const double y = top + row_ * static_cast<double>(s) + (row_ - gap) / 2 + 0.36 * size;
      svg_.Text(kLeft - 8, y, absl::StrCat("stage ", s), {.size = size, .anchor = "end"});
    }
  }

  // Labels right below y.
  void TimeAxis(double y) {
    const Unit& unit = TimeUnit(step_, 2);
    const std::vector<double> ticks = RoundTicks(step_ / unit.size, 10);
    for (const double tick : ticks) {
      const double x = X(tick * unit.size);
      svg_.Line(x, y, x, y + 5, kFrame);
      svg_.Text(x, y + 18, absl::StrCat(tick), {.anchor = "middle"});
    }
    svg_.Line(kLeft, y, kRight, y, kFrame);
    svg_.Text(kLeft - 14, y + 18, unit.name, {.anchor = "end", .color = kFaint});
  }

  void Memory(double top) {
    const double limit = static_cast<double>(timeline_.memory_limit);
    // A limit far above would leave the curves flat on the ground; it is then named, not drawn.
    const bool limit_in_sight = limit > 0 && limit < 4 * most_memory_;
    const double highest = 1.08 * std::max(most_memory_, limit_in_sight ? limit : 0);
    const double bottom = top + kMemoryHeight;
    const Unit& unit = MemoryUnit(highest, 1);
    auto height = [&](double bytes) { return bottom - bytes / highest * kMemoryHeight; };
    for (const double tick : RoundTicks(highest / unit.size, 5)) {
      const double y = height(tick * unit.size);
      svg_.Line(kLeft, y, kRight, y, kGrid);
      svg_.Text(kLeft - 8, y + 4, absl::StrCat(tick), {.anchor = "end"});
    }
    svg_.Text(kLeft - 8, top - 9, unit.name, {.anchor = "end", .color = kFaint});
    std::string text = absl::StrCat("Memory, at most ", Bytes(most_memory_));
    if (limit > 0) absl::StrAppend(&text, " of ", Bytes(limit));
    const bool above = limit > 0 && most_memory_ > limit;
    svg_.Text(kLeft, top - 9, text, {.size = 13, .color = above ? kLimit : "#222222", .bold = true});
    StageLegend(top - 9);
    // The first stage, as a rule the fullest, on top.
    for (size_t s = stages_; s-- > 0;) DrawMemory(s, height);
    if (limit_in_sight) svg_.Line(kLeft, height(limit), kRight, height(limit), kLimit, 1.5, "7 4");
    TimeAxis(bottom);
  }

  // Right-aligned: a colour for each stage, named where there are few; else the first and the last.
  void StageLegend(double y) {
    const bool few = stages_ <= 8;
    const double width = few ? 44 : std::max(1.0, 160 / static_cast<double>(stages_));
    double x = kRight - width * static_cast<double>(stages_) - (few ? 0 : 56);
    svg_.Text(x - 8, y, few ? "stage" : "stage 0", {.anchor = "end"});
    for (size_t s = 0; s < stages_; ++s, x += width) {
      svg_.Rect(x, y - 9, few ? 22 : width, 10, StageColor(s, stages_));
      if (few) svg_.Text(x + 26, y, absl::StrCat(s));
    }
    if (!few) svg_.Text(x + 8, y, absl::StrCat("stage ", stages_ - 1));
  }

  template <typename Height>
  void DrawMemory(size_t s, const Height& height) {
    const auto& memory = timeline_.stages[s].memory;
    if (memory.empty()) return;
    const std::vector<int64_t> highest = MemoryByColumn(memory, step_, static_cast<size_t>(kRight - kLeft), /*dip=*/4);
    std::vector<Svg::Point> line;
    for (size_t c = 0; c < highest.size(); ++c) {
      line.push_back({kLeft + static_cast<double>(c), height(static_cast<double>(highest[c]))});
    }
    line.push_back({kRight, line.back().y});
    svg_.Steps(line, StageColor(s, stages_));
  }

  const Timeline& timeline_;
  const size_t stages_;
  std::vector<std::vector<Box>> boxes_;
  std::set<Layer> layers_;           // that are there, but for extras
  std::vector<std::string> extras_;  // names
  double step_ = 0, most_memory_ = 0, row_ = 0;  // seconds, bytes, pixels
  size_t count_ = 0;                            // boxes, but those of no width
  double box_width_ = 1;                        // median, pixels
  Svg svg_;
};

}  // namespace

std::string TimelinePicture(const Timeline& timeline) { return Picture(timeline).Draw(); }

}  // namespace trefoil
