// Text of an SVG picture, element by element.
//
//   Svg svg;
//   svg.Text(10, 20, "step 3 < step 4", {.size = 12});
//   svg.Rect(10, 30, 100, 8, "#1f5fa8");
//   const std::string file = std::move(svg).Finish(/*width=*/1000, /*height=*/60);
//
// Lengths are pixels, kept to a hundredth. What is drawn later lies above. Attributes that are passed as text (colours)
// are the caller's to keep legal; texts are escaped.
// Threads: one at a time.
#pragma once

#include <absl/strings/string_view.h>

#include <string>
#include <vector>

namespace trefoil {

struct SvgText {
  double size = 12;
  const char* anchor = "start";  // start, middle, end: what of the text lies at x
  absl::string_view color = "#222222";
  bool bold = false;
};

class Svg {
 public:
  // y: the line that letters stand on.
  void Text(double x, double y, absl::string_view text, const SvgText& style = {});
  // `hover`: what a browser shows under the mouse; none if empty.
  void Rect(double x, double y, double width, double height, absl::string_view fill, absl::string_view hover = "");
  // `dashes`: "4 3", or none if empty.
  void Line(double x0, double y0, double x1, double y1, absl::string_view stroke, double width = 1,
            absl::string_view dashes = "");
  // Horizontal, then vertical, from each point to the next: a function that keeps its value until the next point's.
  struct Point {
    double x = 0, y = 0;
  };
  void Steps(const std::vector<Point>& points, absl::string_view color);
  // The file, with a white ground.
  std::string Finish(double width, double height) &&;

 private:
  // "M1 2h3v4h5": of the points, without those that change nothing.
  std::string Path(const std::vector<Point>& points) const;

  std::string text_;
};

// `text` with what XML gives a meaning to escaped.
std::string EscapeXml(absl::string_view text);

// Round numbers from 0 up to `most`, at most `count` + 1 of them: steps of 1, 2 or 5 times a power of ten.
std::vector<double> RoundTicks(double most, int count);

}  // namespace trefoil
