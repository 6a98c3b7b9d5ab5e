#include "client/bench_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace based {
namespace {

constexpr double kWidth = 480, kHeight = 300;
constexpr double kLeft = 62, kRight = 12, kTop = 34, kBottom = 44;
constexpr int kTicks = 5;
constexpr size_t kMostMarks = 60;  // of a line; with more points only the line is drawn
constexpr const char* kColours[] = {"#1b6ca8", "#d1495b", "#3a7d44", "#8e5ea2", "#b8860b"};

struct Axis {
  double low = 0, high = 1;
  bool log = false;

  double At(double value) const {
    if (log) return (std::log10(value) - std::log10(low)) / (std::log10(high) - std::log10(low));
    return (value - low) / (high - low);
  }
};

double X(const Axis& axis, double value) {
  return kLeft + axis.At(value) * (kWidth - kLeft - kRight);
}
double Y(const Axis& axis, double value) {
  return kHeight - kBottom - axis.At(value) * (kHeight - kTop - kBottom);
}

// 1, 2 or 5 times a power of ten, at least `step`.
double RoundStep(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * 0.999) return factor * power;
  }
  return 10 * power;
}

std::vector<double> TicksOf(const Axis& axis) {
  std::vector<double> ticks;
  if (axis.log) {
    for (double tick = axis.low; tick <= axis.high * 1.001; tick *= 10) ticks.push_back(tick);
    return ticks;
  }
  const double step = RoundStep((axis.high - axis.low) / kTicks);
  for (double tick = axis.low; tick <= axis.high * 1.0001; tick += step) ticks.push_back(tick);
  return ticks;
}

template <typename Get>
Axis Fit(const Plot& plot, bool log, Get get) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const PlotLine& line : plot.lines) {
    for (const auto& point : line.points) {
      if (plot.log_x && !(point.first > 0)) continue;
      low = std::min(low, get(point));
      high = std::max(high, get(point));
    }
  }
  if (!(low <= high)) return {.low = log ? 0.1 : 0.0, .high = 1, .log = log};
  if (log) {
    low = std::pow(10.0, std::floor(std::log10(low)));
    high = std::pow(10.0, std::ceil(std::log10(high)));
    return {.low = low, .high = high > low ? high : 10 * low, .log = true};
  }
  high = high > 0 ? high : 1;
  const double step = RoundStep(high / kTicks);
  return {.low = 0, .high = step * std::ceil(high / step - 1e-9), .log = false};
}

void AppendAxes(const Plot& plot, const Axis& x, const Axis& y, std::string& svg) {
  for (const double tick : TicksOf(x)) {
    absl::StrAppendFormat(&svg,
                          "<line class='grid' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>"
                          "<text x='%.1f' y='%.1f' text-anchor='middle'>%g</text>",
                          X(x, tick), kTop, X(x, tick), kHeight - kBottom, X(x, tick),
                          kHeight - kBottom + 15, tick);
  }
  for (const double tick : TicksOf(y)) {
    absl::StrAppendFormat(&svg,
                          "<line class='grid' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>"
                          "<text x='%.1f' y='%.1f' text-anchor='end'>%g</text>",
                          kLeft, Y(y, tick), kWidth - kRight, Y(y, tick), kLeft - 5, Y(y, tick) + 4,
                          tick);
  }
  absl::StrAppendFormat(&svg,
                        "<text class='title' x='%.0f' y='16'>%s</text>"
                        "<text x='%.0f' y='%.0f' text-anchor='middle'>%s</text>"
                        "<text transform='translate(13 %.0f) rotate(-90)' text-anchor='middle'>%s"
                        "</text>",
                        kLeft, HtmlEscape(plot.title), (kLeft + kWidth) / 2, kHeight - 8,
                        HtmlEscape(plot.x_label), (kTop + kHeight - kBottom) / 2,
                        HtmlEscape(plot.y_label));
}

void AppendLine(const Plot& plot, size_t index, const Axis& x, const Axis& y, std::string& svg) {
  const PlotLine& line = plot.lines[index];
  const char* colour = kColours[index % std::size(kColours)];
  std::string points, marks;
  for (const auto& [px, py] : line.points) {
    if (plot.log_x && !(px > 0)) continue;
    absl::StrAppendFormat(&points, "%.1f,%.1f ", X(x, px), Y(y, py));
    if (line.points.size() > kMostMarks) continue;
    absl::StrAppendFormat(&marks,
                          "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'><title>%s: %g, %g</title>"
                          "</circle>",
                          X(x, px), Y(y, py), colour, HtmlEscape(line.name), px, py);
  }
  absl::StrAppendFormat(&svg,
                        "<polyline fill='none' stroke='%s' stroke-width='1.8' points='%s'/>%s",
                        colour, points, marks);
  if (plot.lines.size() < 2) return;
  const double at = kTop + 14 + 15 * static_cast<double>(index);
  absl::StrAppendFormat(&svg, "<text x='%.0f' y='%.0f' fill='%s' class='name'>%s</text>", kLeft + 8,
                        at, colour, HtmlEscape(line.name));
}

}  // namespace

std::string HtmlEscape(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&quot;"}});
}

std::string PlotSvg(const Plot& plot) {
  const Axis x = Fit(plot, plot.log_x, [](const auto& point) { return point.first; });
  const Axis y = Fit(plot, false, [](const auto& point) { return point.second; });
  std::string svg =
      absl::StrFormat("<svg viewBox='0 0 %.0f %.0f' width='%.0f' height='%.0f' role='img'>", kWidth,
                      kHeight, kWidth, kHeight);
  AppendAxes(plot, x, y, svg);
  for (size_t i = 0; i < plot.lines.size(); ++i) AppendLine(plot, i, x, y, svg);
  return svg + "</svg>";
}

}  // namespace based
