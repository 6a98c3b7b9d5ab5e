#include "server/metrics_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace based {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr size_t kBytesOfLine = 96;  // about, to reserve
constexpr int kDigits = std::numeric_limits<double>::max_digits10 - 1;

void AppendNumber(double value, std::string& out) {
  if (std::isnan(value)) return absl::StrAppend(&out, "Nan");
  if (std::isinf(value)) return absl::StrAppend(&out, value > 0 ? "+Inf" : "-Inf");
  char text[32];
  const auto end =
      std::to_chars(std::begin(text), std::end(text), value, std::chars_format::general, kDigits);
  out.append(text, end.ptr);
}

void AppendEscaped(std::string_view text, std::string& out) {
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else {
      if (c == '\\' || c == '"') out += '\\';
      out += c;
    }
  }
}

// NAME SUFFIX {labels, le="bound"} and a space.
void AppendHead(const MetricFamily& family, const ClientMetric& metric, std::string_view suffix,
                const double* bound, std::string& out) {
  out.append(family.name).append(suffix);
  if (!metric.label.empty() || bound != nullptr) {
    char before = '{';
    for (const ClientMetric::Label& label : metric.label) {
      out += before;
      out.append(label.name).append("=\"");
      AppendEscaped(label.value, out);
      out += '"';
      before = ',';
    }
    if (bound != nullptr) {
      out += before;
      out += "le=\"";
      AppendNumber(*bound, out);
      out += '"';
    }
    out += '}';
  }
  out += ' ';
}

void AppendTail(const ClientMetric& metric, std::string& out) {
  if (metric.timestamp_ms != 0) absl::StrAppend(&out, " ", metric.timestamp_ms);
  out += '\n';
}

void AppendCount(const MetricFamily& family, const ClientMetric& metric, std::string_view suffix,
                 const double* bound, uint64_t count, std::string& out) {
  AppendHead(family, metric, suffix, bound, out);
  absl::StrAppend(&out, count);
  AppendTail(metric, out);
}

void AppendValue(const MetricFamily& family, const ClientMetric& metric, std::string_view suffix,
                 double value, std::string& out) {
  AppendHead(family, metric, suffix, nullptr, out);
  AppendNumber(value, out);
  AppendTail(metric, out);
}

void AppendHistogram(const MetricFamily& family, const ClientMetric& metric, std::string& out) {
  const ClientMetric::Histogram& histogram = metric.histogram;
  AppendCount(family, metric, "_count", nullptr, histogram.sample_count, out);
  AppendValue(family, metric, "_sum", histogram.sample_sum, out);
  constexpr double kAll = std::numeric_limits<double>::infinity();
  double last = -kAll;
  for (const ClientMetric::Bucket& bucket : histogram.bucket) {
    AppendCount(family, metric, "_bucket", &bucket.upper_bound, bucket.cumulative_count, out);
    last = bucket.upper_bound;
  }
  if (last != kAll) AppendCount(family, metric, "_bucket", &kAll, histogram.sample_count, out);
}

void AppendMetric(const MetricFamily& family, const ClientMetric& metric, std::string& out) {
  switch (family.type) {
    case MetricType::Counter:
      return AppendValue(family, metric, "", metric.counter.value, out);
    case MetricType::Gauge:
      return AppendValue(family, metric, "", metric.gauge.value, out);
    case MetricType::Histogram:
      return AppendHistogram(family, metric, out);
    default:
      return AppendValue(family, metric, "", metric.untyped.value, out);
  }
}

}  // namespace

const char* MetricTypeName(MetricType type) {
  switch (type) {
    case MetricType::Counter:
      return "counter";
    case MetricType::Gauge:
      return "gauge";
    case MetricType::Histogram:
      return "histogram";
    default:
      return "untyped";
  }
}

std::string MetricsText(const std::vector<MetricFamily>& families,
                        const std::set<std::string>& names) {
  const auto is_asked_for = [&](const MetricFamily& family) {
    return names.empty() || names.count(family.name) > 0;
  };
  size_t lines = 0;
  for (const MetricFamily& family : families) {
    BASED_CHECK(family.type != MetricType::Summary);
    if (!is_asked_for(family)) continue;
    lines += 2;
    for (const ClientMetric& metric : family.metric) lines += 1 + metric.histogram.bucket.size();
  }
  std::string out;
  out.reserve(lines * kBytesOfLine);
  for (const MetricFamily& family : families) {
    if (!is_asked_for(family)) continue;
    if (!family.help.empty()) {
      out.append("# HELP ").append(family.name).append(" ").append(family.help).append("\n");
    }
    out.append("# TYPE ")
        .append(family.name)
        .append(" ")
        .append(MetricTypeName(family.type))
        .append("\n");
    for (const ClientMetric& metric : family.metric) AppendMetric(family, metric, out);
  }
  return out;
}

}  // namespace based
