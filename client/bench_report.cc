#include "client/bench_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench_plot.h"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kCurvePoints = 200;

constexpr char kStyle[] = R"(
body{font:14px system-ui,sans-serif;margin:24px;color:#222;max-width:1040px}
h1{font-size:20px}h2{font-size:16px;margin-top:28px}
table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:right}
td:first-child,th:first-child{text-align:left}tr.best td{font-weight:bold}
svg{margin:8px 8px 0 0}svg text{font-size:11px}svg .title{font-size:13px;font-weight:600}
svg .name{font-weight:600}svg .grid{stroke:#e3e3e3}
)";

Json SampleJson(const Sample& sample) {
  return {{"count", sample.size()},       {"mean", sample.mean()},
          {"p50", sample.Quantile(0.5)},  {"p90", sample.Quantile(0.9)},
          {"p99", sample.Quantile(0.99)}, {"p99.9", sample.Quantile(0.999)},
          {"max", sample.Quantile(1.0)}};
}

Json StepJson(const LoadStep& step, bool limited) {
  const LoadReport& report = step.report;
  Json json = {{"rate", step.rate},
               {"seconds", report.seconds},
               {"requests", report.requests},
               {"ok", report.ok},
               {"requests_per_s", report.requests_per_s},
               {"output_tokens_per_s", report.output_tokens_per_s},
               {"prompt_tokens", report.prompt_tokens},
               {"output_tokens", report.output_tokens}};
  if (limited) {
    json["goodput_requests_per_s"] = report.goodput();
    json["good_share"] = report.good_share();
    json["keeps_limits"] = step.keeps_limits;
  }
  json["errors"] = Json::object();
  for (const auto& [code, count] : report.errors) json["errors"][code] = count;
  json["ttft_ms"] = SampleJson(report.ttft);
  json["itl_ms"] = SampleJson(report.itl);
  json["tpot_ms"] = SampleJson(report.tpot);
  json["e2e_ms"] = SampleJson(report.e2e);
  json["sent_late_ms"] = SampleJson(report.lag);
  json["client_us_per_token"] = report.client_us_per_token;
  json["client_cores"] = report.client_cores;
  return json;
}

// Latency against the share of requests or gaps that it does not exceed.
PlotLine CurveOf(const std::string& name, const Sample& sample) {
  PlotLine line{.name = name};
  if (sample.size() == 0) return line;
  for (int i = 0; i <= kCurvePoints; ++i) {
    const double share = static_cast<double>(i) / kCurvePoints;
    line.points.emplace_back(sample.Quantile(share), 100 * share);
  }
  return line;
}

std::string StepPlots(const LoadReport& report) {
  const auto curve = [](const std::string& title, const Sample& sample) {
    return PlotSvg({.title = title,
                    .x_label = "milliseconds",
                    .y_label = "% at or below",
                    .lines = {CurveOf(title, sample)},
                    .log_x = true});
  };
  return absl::StrCat(curve("Time to first token", report.ttft),
                      curve("Inter-token latency", report.itl),
                      curve("Time per output token", report.tpot), curve("End to end", report.e2e));
}

std::string SweepPlots(const BenchReport& report) {
  PlotLine good{.name = "good requests/s"}, served{.name = "requests/s"};
  PlotLine ttft50{.name = "TTFT p50"}, ttft99{.name = "TTFT p99"};
  PlotLine itl50{.name = "ITL p50"}, itl99{.name = "ITL p99"};
  for (const LoadStep& step : report.steps) {
    good.points.emplace_back(step.rate, step.report.goodput());
    served.points.emplace_back(step.rate, step.report.requests_per_s);
    ttft50.points.emplace_back(step.rate, step.report.ttft.Quantile(0.5));
    ttft99.points.emplace_back(step.rate, step.report.ttft.Quantile(0.99));
    itl50.points.emplace_back(step.rate, step.report.itl.Quantile(0.5));
    itl99.points.emplace_back(step.rate, step.report.itl.Quantile(0.99));
  }
  const std::string x = "offered requests/s";
  return absl::StrCat(
      PlotSvg({.title = "Goodput", .x_label = x, .y_label = "requests/s", .lines = {good, served}}),
      PlotSvg({.title = "Time to first token",
               .x_label = x,
               .y_label = "milliseconds",
               .lines = {ttft50, ttft99}}),
      PlotSvg({.title = "Inter-token latency",
               .x_label = x,
               .y_label = "milliseconds",
               .lines = {itl50, itl99}}));
}

std::string SweepTable(const BenchReport& report) {
  std::string html =
      "<table><tr><th>offered/s</th><th>served/s</th><th>goodput/s</th><th>good %</th>"
      "<th>TTFT p99 ms</th><th>ITL p99 ms</th><th>tokens/s</th></tr>";
  for (size_t i = 0; i < report.steps.size(); ++i) {
    const LoadReport& step = report.steps[i].report;
    absl::StrAppendFormat(&html,
                          "<tr%s><td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%.1f</td>"
                          "<td>%.1f</td><td>%.0f</td></tr>",
                          i == report.shown ? " class='best'" : "", report.steps[i].rate,
                          step.requests_per_s, step.goodput(), 100 * step.good_share(),
                          step.ttft.Quantile(0.99), step.itl.Quantile(0.99),
                          step.output_tokens_per_s);
  }
  return html + "</table>";
}

}  // namespace

nlohmann::ordered_json ReportJson(const BenchReport& report) {
  Json json = {{"settings", Json::object()}};
  for (const auto& [name, value] : report.settings) json["settings"][name] = value;
  const Json shown = StepJson(report.steps[report.shown], report.limited);
  for (const auto& [key, value] : shown.items()) json[key] = value;
  if (report.steps.size() > 1) {
    json["sweep"] = Json::array();
    for (const LoadStep& step : report.steps) {
      json["sweep"].push_back(StepJson(step, report.limited));
    }
  }
  return json;
}

std::string ReportPage(const BenchReport& report) {
  const LoadStep& shown = report.steps[report.shown];
  std::string html = absl::StrCat(
      "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>based bench</title>"
      "<style>",
      kStyle, "</style></head><body><h1>based bench</h1>");
  if (report.steps.size() > 1) {
    absl::StrAppend(&html, "<h2>Sweep</h2>", SweepTable(report), SweepPlots(report));
    absl::StrAppendFormat(&html, "<h2>At %.2f requests/s</h2>", shown.rate);
  }
  absl::StrAppend(&html, "<pre>", HtmlEscape(ReportText(shown.report, report.limited)), "</pre>",
                  StepPlots(shown.report), "<h2>Settings</h2><table>");
  for (const auto& [name, value] : report.settings) {
    absl::StrAppend(&html, "<tr><td>", HtmlEscape(name), "</td><td>", HtmlEscape(value),
                    "</td></tr>");
  }
  return absl::StrCat(html, "</table></body></html>\n");
}

}  // namespace based
