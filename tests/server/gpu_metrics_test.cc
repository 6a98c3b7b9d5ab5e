// Series of GPUs from a library that answers as NVML does, made by the build.
#include "server/gpu_metrics.h"

#include <string>

#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"

namespace based {
namespace {

std::string Text(const prometheus::Registry& registry) {
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

TEST(GpuMetrics, ReadsEveryGpuThatAnswers) {
  prometheus::Registry registry;
  GpuMetrics metrics(registry, BASED_FAKE_NVML);
  metrics.Read();
  metrics.Read();
  const std::string text = Text(registry);
  for (const char* line :
       {"based_gpu_memory_bytes{gpu=\"0\",state=\"used\"} 1000\n",
        "based_gpu_memory_bytes{gpu=\"0\",state=\"total\"} 4000\n",
        "based_gpu_memory_bytes{gpu=\"1\",state=\"used\"} 1001\n",
        "based_gpu_busy_ratio{gpu=\"0\"} 0.25\n", "based_gpu_power_watts{gpu=\"1\"} 350.5\n",
        "based_gpu_power_limit_watts{gpu=\"0\"} 700\n",
        "based_gpu_power_limit_watts{gpu=\"1\"} 450\n",
        // Its counter stands at 7, 9 and 11 joules.
        "based_gpu_energy_joules_total{gpu=\"0\"} 4\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "in\n" << text;
  }
}

TEST(GpuMetrics, AMachineWithoutTheLibraryHasNoSeries) {
  prometheus::Registry registry;
  GpuMetrics metrics(registry, "libbased-no-such-library.so.1");
  metrics.Read();
  EXPECT_EQ(Text(registry).find("based_gpu"), std::string::npos);
}

TEST(GpuMetrics, ALibraryOfAnotherKindIsNoLibrary) {
  prometheus::Registry registry;
  GpuMetrics metrics(registry, "libm.so.6");
  metrics.Read();
  EXPECT_EQ(Text(registry).find("based_gpu"), std::string::npos);
}

}  // namespace
}  // namespace based
