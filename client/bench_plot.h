// Line plots as SVG text.
#ifndef BASED_CLIENT_BENCH_PLOT_H_
#define BASED_CLIENT_BENCH_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace based {

struct PlotLine {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<PlotLine> lines;
  bool log_x = false;  // points with x at or below 0 are left out
};

// One <svg> element, 480 by 300, with axes, ticks, a legend and titles on its points.
std::string PlotSvg(const Plot& plot);

// The text with &, <, > and quotes escaped.
std::string HtmlEscape(const std::string& text);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_PLOT_H_
