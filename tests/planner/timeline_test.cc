#include "planner/report/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "planner/report/timeline_columns.h"

namespace trefoil {
namespace {

// A step of `stages` stages by a schedule, as the planner makes it: forward takes 1 ms, backward twice as long, the
// last stage a little more; memory grows by 100 MiB with F and falls with B.
Timeline Step(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches) {
  std::vector<std::vector<Action>> lists;
  for (int s = 0; s < stages; ++s) lists.push_back(BuildSchedule(kind, stages, chunks, micro_batches, s));
  const auto seconds = [&](int stage, const Action& action) {
    const double forward = (stage + 1 == stages ? 1.1e-3 : 1e-3) / chunks;
    switch (action.kind) {
      case ActionKind::kForward: return forward;
      case ActionKind::kBackward: return 2 * forward;
      case ActionKind::kReceiveActivation:
      case ActionKind::kReceiveGradient: return 3e-5;
      default: return 0.0;
    }
  };
  const ScheduleTimes times = SimulateSchedule(lists, seconds);
  Timeline timeline;
  timeline.title = "a <test> & more: pipeline " + std::to_string(stages);
  timeline.chunks = chunks;
  timeline.step_seconds = times.makespan + 4e-3;
  timeline.memory_limit = (int64_t{1} << 30) + (stages + 4) * (int64_t{100} << 20);
  for (size_t s = 0; s < lists.size(); ++s) {
    Timeline::Stage stage;
    stage.actions = lists[s];
    stage.spans = times.spans[s];
    int64_t bytes = int64_t{1} << 30;
    stage.memory.push_back({0, bytes});
    for (size_t i = 0; i < lists[s].size(); ++i) {
      const int64_t change = (int64_t{100} << 20) / chunks;
      const Span& span = stage.spans[i];
      if (lists[s][i].kind == ActionKind::kForward) stage.memory.push_back({span.begin, bytes += change});
      if (lists[s][i].kind == ActionKind::kBackward) stage.memory.push_back({span.end, bytes -= change});
    }
    const double end = std::max_element(stage.spans.begin(), stage.spans.end(), [](const Span& a, const Span& b) {
                         return a.end < b.end;
                       })->end;
    stage.extras = {{"reduce \"gradients\"", {end, end + 1e-3}},
                    {"optimizer", {times.makespan + 1e-3, times.makespan + 4e-3}}};
    timeline.stages.push_back(std::move(stage));
  }
  return timeline;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// What is wrong with `text` as XML without comments, declarations and the like; empty if nothing.
std::string XmlProblem(const std::string& text) {
  std::vector<std::string> open;
  size_t at = 0;
  bool closed = false;  // the root
  while (at < text.size()) {
    if (text[at] == '&') {
      const size_t semicolon = text.find(';', at);
      if (semicolon == std::string::npos || semicolon > at + 5) return "bare & at " + std::to_string(at);
      at = semicolon;
    }
    if (text[at] != '<') {
      if (closed && text[at] != '\n') return "text after the root";
      ++at;
      continue;
    }
    if (closed) return "a second root";
    const bool end = text[at + 1] == '/';
    size_t name_end = text.find_first_of(" />", at + 2);
    const std::string name = text.substr(at + 1 + end, name_end - at - 1 - end);
    if (name.empty() || !std::isalpha(name[0])) return "no name at " + std::to_string(at);
    at = name_end;
    std::map<std::string, std::string> attributes;
    while (text[at] == ' ') {
      const size_t equals = text.find('=', at);
      const std::string key = text.substr(at + 1, equals - at - 1);
      if (text[equals + 1] != '"') return key + " is not quoted";
      at = text.find('"', equals + 2);
      if (at == std::string::npos) return key + " has no end";
      const std::string value = text.substr(equals + 2, at - equals - 2);
      if (value.find('<') != std::string::npos) return "< in " + key;
      if (!attributes.emplace(key, value).second) return key + " twice";
      ++at;
    }
    const bool empty = text[at] == '/';
    if (text[at + empty] != '>') return name + " has no >";
    at += empty + 1;
    if (end) {
      if (open.empty() || open.back() != name) return "</" + name + "> closes another";
      open.pop_back();
      closed = open.empty();
    } else if (!empty) {
      open.push_back(name);
    }
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

// For eyes: bazel-testlogs/tests/launcher/timeline_test/test.outputs.
void Keep(const std::string& name, const std::string& text) {
  if (const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR")) std::ofstream(folder + ("/" + name)) << text;
}

TEST(TimelineTest, XmlProblemKnowsProblems) {
  EXPECT_EQ(XmlProblem("<a b=\"c\"><d/>x &amp; y</a>\n"), "");
  EXPECT_NE(XmlProblem("<a><d></a>"), "");
  EXPECT_NE(XmlProblem("<a>x & y</a>"), "");
  EXPECT_NE(XmlProblem("<a>x < y</a>"), "");
  EXPECT_NE(XmlProblem("<a b=\"1\" b=\"2\"/>"), "");
  EXPECT_NE(XmlProblem("<a>"), "");
}

TEST(TimelineTest, TraceHasEachActionOnceAtItsTime) {
  const Timeline timeline = Step(ParallelConfig::INTERLEAVED, 4, 2, 8);
  const auto json = nlohmann::json::parse(TimelineTrace(timeline));
  std::map<std::tuple<int, std::string>, nlohmann::json> events;
  std::map<int, std::string> names;
  size_t counters = 0, points = 0;
  for (const auto& event : json["traceEvents"]) {
    const int process = event["pid"];
    if (event["ph"] == "X") {
      EXPECT_TRUE(events.emplace(std::tuple(process, event["name"]), event).second) << event;
    }
    if (event["ph"] == "C") ++counters;
    if (event["name"] == "process_name") names[process] = event["args"]["name"];
  }
  size_t actions = 0;
  for (size_t s = 0; s < timeline.stages.size(); ++s) {
    const Timeline::Stage& stage = timeline.stages[s];
    const int process = static_cast<int>(s);
    EXPECT_EQ(names[process], "stage " + std::to_string(s));
    points += stage.memory.size();
    for (size_t i = 0; i < stage.actions.size(); ++i, ++actions) {
      const auto found = events.find({process, ToString({stage.actions[i]})});
      ASSERT_NE(found, events.end()) << s << ToString({stage.actions[i]});
      const auto& event = found->second;
      EXPECT_NEAR(event["ts"].get<double>(), 1e6 * stage.spans[i].begin, 1e-3);
      EXPECT_NEAR(event["ts"].get<double>() + event["dur"].get<double>(), 1e6 * stage.spans[i].end, 2e-3);
      EXPECT_EQ(event["args"]["micro_batch"], stage.actions[i].micro_batch);
      EXPECT_EQ(event["args"]["chunk"], stage.actions[i].chunk);
      const bool message = std::string("SRsr").find(event["name"].get<std::string>()[0]) != std::string::npos;
      EXPECT_EQ(event["tid"], message ? 1 : 0) << event;
    }
    EXPECT_TRUE(events.contains({process, "optimizer"}));
    EXPECT_TRUE(events.contains({process, "reduce \"gradients\""}));
  }
  EXPECT_EQ(events.size(), actions + 2 * timeline.stages.size());
  EXPECT_EQ(counters, points);
}

TEST(TimelineTest, NothingOverlapsOnAStagesComputeRow) {
  const auto json = nlohmann::json::parse(TimelineTrace(Step(ParallelConfig::ONE_F_ONE_B, 5, 1, 7)));
  std::map<int, std::vector<std::pair<double, double>>> rows;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X" || event["tid"] != 0) continue;
    rows[event["pid"]].push_back({event["ts"], event["ts"].get<double>() + event["dur"].get<double>()});
  }
  ASSERT_EQ(rows.size(), 5u);
  for (auto& [process, row] : rows) {
    ASSERT_EQ(row.size(), 2u * 7 + 2);
    std::sort(row.begin(), row.end());
    for (size_t i = 1; i < row.size(); ++i) EXPECT_GE(row[i].first, row[i - 1].second - 1e-6) << process << " " << i;
  }
}

TEST(TimelineTest, PictureHasABoxForEachComputation) {
  for (const auto& [name, chunks] : {std::pair("small", 1), std::pair("interleaved", 2)}) {
    const auto kind = chunks == 1 ? ParallelConfig::ONE_F_ONE_B : ParallelConfig::INTERLEAVED;
    const std::string svg = TimelinePicture(Step(kind, 4, chunks, 8));
    Keep(std::string(name) + ".svg", svg);
    EXPECT_EQ(XmlProblem(svg), "");
    // Each with what a browser shows under the mouse, and with its number.
    EXPECT_EQ(Count(svg, "<title>stage "), 4u * (2 * 8 * chunks + 2));
    for (int i = 0; i < 8; ++i) {
      EXPECT_GE(Count(svg, ">" + std::to_string(i) + "</text>"), 4u * 2 * chunks) << i;
    }
    EXPECT_EQ(Count(svg, "a &lt;test&gt; &amp; more"), 1u);
    EXPECT_EQ(Count(svg, "stroke-dasharray"), 1u);  // the limit
  }
}

TEST(TimelineTest, PictureTellsWholeBackwardsFromDividedOnes) {
  Timeline timeline = Step(ParallelConfig::ONE_F_ONE_B, 2, 1, 3);
  EXPECT_EQ(Count(TimelinePicture(timeline), "B backward"), 1u);
  EXPECT_EQ(Count(TimelinePicture(timeline), "W backward"), 0u);
  for (Timeline::Stage& stage : timeline.stages) {
    for (size_t i = 0; i < stage.actions.size(); ++i) {
      if (stage.actions[i].kind != ActionKind::kBackward) continue;
      stage.actions[i].kind = ActionKind::kBackwardInput;
      Action weight = stage.actions[i];
      weight.kind = ActionKind::kBackwardWeight;
      const Span whole = stage.spans[i];
      stage.spans[i].end = (whole.begin + whole.end) / 2;
      stage.actions.insert(stage.actions.begin() + static_cast<std::ptrdiff_t>(i) + 1, weight);
      stage.spans.insert(stage.spans.begin() + static_cast<std::ptrdiff_t>(i) + 1, {stage.spans[i].end, whole.end});
    }
  }
  const std::string svg = TimelinePicture(timeline);
  EXPECT_EQ(Count(svg, "B backward"), 0u);
  EXPECT_EQ(Count(svg, "I backward, inputs"), 1u);
  EXPECT_EQ(Count(svg, "W backward, weights"), 1u);
  EXPECT_EQ(Count(svg, "stage 1: I"), 3u);
  EXPECT_EQ(Count(svg, "stage 1: W"), 3u);
  EXPECT_EQ(Count(TimelineTrace(timeline), "\"name\":\"W2\""), 2u);
}

TEST(TimelineTest, LargePictureIsSmallEnough) {
  const auto begin = std::chrono::steady_clock::now();
  const Timeline timeline = Step(ParallelConfig::ONE_F_ONE_B, 64, 1, 512);
  const auto built = std::chrono::steady_clock::now();
  const std::string svg = TimelinePicture(timeline), trace = TimelineTrace(timeline);
  const auto written = std::chrono::steady_clock::now();
  Keep("large.svg", svg);
  Keep("interleaved_large.svg", TimelinePicture(Step(ParallelConfig::INTERLEAVED, 64, 2, 256)));
  EXPECT_EQ(XmlProblem(svg), "");
  EXPECT_LT(svg.size(), 2u << 20);
  EXPECT_LT(trace.size(), 60u << 20);
  std::cout << "made in " << std::chrono::duration<double>(built - begin).count() << " s, written in "
            << std::chrono::duration<double>(written - built).count() << " s, " << svg.size() << " and " << trace.size()
            << " bytes\n";
  Keep("medium.svg", TimelinePicture(Step(ParallelConfig::INTERLEAVED, 16, 4, 32)));
  Keep("middle.svg", TimelinePicture(Step(ParallelConfig::ONE_F_ONE_B, 16, 1, 64)));
}

TEST(TimelineTest, ManyBoxesStayUnderTheLimit) {
  // As many boxes as are drawn one by one, and mixed colours of many stages.
  EXPECT_LT(TimelinePicture(Step(ParallelConfig::ONE_F_ONE_B, 64, 1, 154)).size(), 2u << 20);
  EXPECT_LT(TimelinePicture(Step(ParallelConfig::GPIPE, 128, 1, 256)).size(), 2u << 20);
}

TEST(TimelineTest, MemoryByColumnIsTheHighestWithoutShortDips) {
  using testing::ElementsAre;
  // Columns of a second; 9 only for an instant of the third, 1 for a second from 5 on.
  const std::vector<Timeline::MemoryPoint> memory = {{0, 2}, {2.2, 9}, {2.3, 4}, {5, 1}, {6, 4}, {8, 0}};
  EXPECT_THAT(MemoryByColumn(memory, 10, 10, 0), ElementsAre(2, 2, 9, 4, 4, 1, 4, 4, 0, 0));
  EXPECT_THAT(MemoryByColumn(memory, 10, 10, 2), ElementsAre(2, 2, 9, 4, 4, 4, 4, 4, 0, 0));
  EXPECT_THAT(NeighbourMeans({0, 3, 6, 0}, 1), ElementsAre(1.5, 3, 3, 3));
}

TEST(TimelineTest, NothingKnownIsStillAPicture) {
  Timeline timeline;
  timeline.stages.resize(1);
  EXPECT_EQ(XmlProblem(TimelinePicture(timeline)), "");
  EXPECT_EQ(TimelinePicture(timeline).find("nan"), std::string::npos);
  EXPECT_TRUE(nlohmann::json::parse(TimelineTrace(timeline)).contains("traceEvents"));
}

}  // namespace
}  // namespace trefoil
