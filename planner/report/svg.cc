#include "planner/report/svg.h"

#include <absl/strings/str_cat.h>

#include <cmath>
#include <utility>

namespace trefoil {
namespace {

double Hundredths(double x) { return std::round(100 * x) / 100; }

}  // namespace

std::string EscapeXml(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      default: escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return escaped;
}

std::vector<double> RoundTicks(double most, int count) {
  if (!(most > 0)) return {0};
  const double least = most / count;
  double step = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {2.0, 2.5, 2.0}) {  // 2, 5, 10 times
    if (step >= least * (1 - 1e-9)) break;
    step *= factor;
  }
  std::vector<double> ticks;
  for (int i = 0; i * step <= most * (1 + 1e-9); ++i) ticks.push_back(i * step);
  return ticks;
}

void Svg::Text(double x, double y, absl::string_view text, const SvgText& style) {
  absl::StrAppend(&text_, "<text x=\"", Hundredths(x), "\" y=\"", Hundredths(y), "\" font-size=\"", style.size,
                  "\" fill=\"", style.color, "\"");
  if (style.anchor != std::string("start")) absl::StrAppend(&text_, " text-anchor=\"", style.anchor, "\"");
  if (style.bold) text_ += " font-weight=\"bold\"";
  absl::StrAppend(&text_, ">", EscapeXml(text), "</text>\n");
}

void Svg::Rect(double x, double y, double width, double height, absl::string_view fill, absl::string_view hover) {
  absl::StrAppend(&text_, "<rect x=\"", Hundredths(x), "\" y=\"", Hundredths(y), "\" width=\"", Hundredths(width),
                  "\" height=\"", Hundredths(height), "\" fill=\"", fill, "\"");
  if (hover.empty()) {
    text_ += "/>\n";
  } else {
    absl::StrAppend(&text_, "><title>", EscapeXml(hover), "</title></rect>\n");
  }
}

void Svg::Line(double x0, double y0, double x1, double y1, absl::string_view stroke, double width,
               absl::string_view dashes) {
  absl::StrAppend(&text_, "<path d=\"M", Hundredths(x0), " ", Hundredths(y0), "L", Hundredths(x1), " ", Hundredths(y1),
                  "\" stroke=\"", stroke, "\" stroke-width=\"", width, "\"");
  if (!dashes.empty()) absl::StrAppend(&text_, " stroke-dasharray=\"", dashes, "\"");
  text_ += "/>\n";
}

std::string Svg::Path(const std::vector<Point>& points) const {
  std::string path = absl::StrCat("M", Hundredths(points[0].x), " ", Hundredths(points[0].y));
  double y = Hundredths(points[0].y);
  for (size_t i = 1; i < points.size(); ++i) {
    const double to = Hundredths(points[i].y);
    if (to == y && i + 1 < points.size()) continue;
    absl::StrAppend(&path, "H", Hundredths(points[i].x));
    if (to != y) absl::StrAppend(&path, "V", to);
    y = to;
  }
  return path;
}

void Svg::Steps(const std::vector<Point>& points, absl::string_view color) {
  if (points.empty()) return;
  absl::StrAppend(&text_, "<path d=\"", Path(points), "\" fill=\"none\" stroke=\"", color,
                  "\" stroke-width=\"1.3\" stroke-linejoin=\"round\"/>\n");
}

std::string Svg::Finish(double width, double height) && {
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height,
                      "\" viewBox=\"0 0 ", width, " ", height,
                      "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n"
                      "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
                      text_, "</svg>\n");
}

}  // namespace trefoil
