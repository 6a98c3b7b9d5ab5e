// Byte for byte what prometheus-cpp's own serializer writes.
#include "server/metrics_text.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "server/metrics.h"

namespace based {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

class RandomFamilies {
 public:
  explicit RandomFamilies(uint32_t seed) : random_(seed) {}

  std::vector<MetricFamily> Make() {
    std::vector<MetricFamily> families(1 + Below(4));
    for (MetricFamily& family : families) {
      constexpr MetricType kTypes[] = {MetricType::Counter, MetricType::Gauge,
                                       MetricType::Histogram, MetricType::Untyped};
      family = {.name = "based_" + Text("abc_"), .help = Text(" ab\"\\"), .type = kTypes[Below(4)]};
      family.metric.resize(Below(4));
      for (ClientMetric& metric : family.metric) Fill(metric);
    }
    return families;
  }

 private:
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  std::string Text(const std::string& letters) {
    std::string text;
    for (uint32_t i = Below(6); i > 0; --i) {
      text += letters[Below(static_cast<uint32_t>(letters.size()))];
    }
    return text;
  }

  double Value() {
    switch (Below(8)) {
      case 0:
        return std::numeric_limits<double>::quiet_NaN();
      case 1:
        return Below(2) == 0 ? INFINITY : -INFINITY;
      case 2:
        return Below(1'000'000'000);
      case 3:
        return std::ldexp(1 + Below(1000), static_cast<int>(Below(2000)) - 1000);
      case 4:
        return 0.1 * Below(100);
      case 5:
        return -0.0;
      default:
        return std::uniform_real_distribution<double>(-1e3, 1e3)(random_);
    }
  }

  void Fill(ClientMetric& metric) {
    for (uint32_t i = Below(3); i > 0; --i) {
      metric.label.push_back({"l" + Text("ab"), Text("a\"\\\n\u00e9")});
    }
    metric.counter.value = metric.gauge.value = metric.untyped.value = Value();
    metric.timestamp_ms = Below(4) == 0 ? -5 + static_cast<int64_t>(Below(1'000'000)) : 0;
    metric.histogram.sample_count = random_();
    metric.histogram.sample_sum = Value();
    double bound = -1;
    for (uint32_t i = Below(5); i > 0; --i) {
      bound = Below(5) == 0 ? INFINITY : bound + 0.125 * (1 + Below(9));
      metric.histogram.bucket.push_back({.cumulative_count = random_(), .upper_bound = bound});
      if (std::isinf(bound)) break;
    }
  }

  std::mt19937 random_;
};

TEST(MetricsText, IsWhatTheLibraryWrites) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    const std::vector<MetricFamily> families = RandomFamilies(seed).Make();
    ASSERT_EQ(MetricsText(families), prometheus::TextSerializer().Serialize(families)) << seed;
  }
}

TEST(MetricsText, OfThisDaemonsMetricsToo) {
  Metrics metrics;
  const std::vector<MetricFamily> families = metrics.Families();
  const std::string text = MetricsText(families);
  EXPECT_EQ(text, prometheus::TextSerializer().Serialize(families));
  EXPECT_GT(text.size(), 10'000u);
}

TEST(MetricsText, OfTheFamiliesThatAreAskedFor) {
  Metrics metrics;
  metrics.SetTenants({{.name = "acme"}});
  const std::vector<MetricFamily> all = metrics.Families();
  const std::string some =
      MetricsText(all, {"based_queued_requests", "based_queue_seconds", "no_such_series"});
  std::vector<MetricFamily> chosen;
  for (const MetricFamily& family : all) {
    if (family.name == "based_queued_requests" || family.name == "based_queue_seconds") {
      chosen.push_back(family);
    }
  }
  ASSERT_EQ(chosen.size(), 2u);
  EXPECT_EQ(some, MetricsText(chosen));
  EXPECT_EQ(MetricsText(all, {"no_such_series"}), "");
}

}  // namespace
}  // namespace based
