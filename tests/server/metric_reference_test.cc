// Every series is documented, and the page in the tree is the one that the code prints: a name, a
// type or a label cannot change without a change of deploy/docs/metrics.md.
#include "server/metric_reference.h"

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace based {
namespace {

std::string PageInTree() {
  std::ifstream file(std::string(BASED_SOURCE_DIR) + "/deploy/docs/metrics.md");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(MetricReference, EverySeriesIsDocumented) {
  const ReferenceFaults faults = CheckReference(DocumentedFamilies());
  for (const std::string& name : faults.undocumented) {
    ADD_FAILURE() << name << " is not documented. Add this to kNotes in server/"
                  << "metric_reference.cc, in the order of names:\n    {\"" << name
                  << "\", \"UNIT\", \"What to do when it moves.\"},\nthen print the page anew:\n"
                  << "  build/bin/based-server --print_metrics_reference > deploy/docs/metrics.md";
  }
  for (const std::string& name : faults.gone) {
    ADD_FAILURE() << name << " is in kNotes of server/metric_reference.cc and no series. Was it "
                  << "renamed? Boards, rules and users' dashboards may name it.";
  }
}

TEST(MetricReference, ThePageInTheTreeIsWhatTheCodePrints) {
  const std::vector<prometheus::MetricFamily> families = DocumentedFamilies();
  const std::string page = MetricsReference(families);
  const std::string tree = PageInTree();
  for (const prometheus::MetricFamily& family : families) {
    EXPECT_NE(tree.find(absl::StrCat("### ", family.name, "\n")), std::string::npos)
        << family.name << " is missing in deploy/docs/metrics.md";
  }
  EXPECT_TRUE(page == tree)
      << "deploy/docs/metrics.md is not what the code prints. Is the change of names, types or "
         "labels meant? Then: build/bin/based-server --print_metrics_reference > "
         "deploy/docs/metrics.md";
}

TEST(MetricReference, NamesFollowPrometheusConventions) {
  for (const prometheus::MetricFamily& family : DocumentedFamilies()) {
    EXPECT_EQ(family.name.rfind("based_", 0), 0u) << family.name;
    EXPECT_EQ(family.name.find(':'), std::string::npos) << family.name;
    const bool total =
        family.name.size() > 6 && family.name.compare(family.name.size() - 6, 6, "_total") == 0;
    EXPECT_EQ(total, family.type == prometheus::MetricType::Counter) << family.name;
    EXPECT_FALSE(family.help.empty()) << family.name;
    EXPECT_NE(family.help.back(), '.') << family.name << ": the page adds the full stop";
  }
}

TEST(MetricReference, HistogramsOfSecondsBeginAtAHundredMicroseconds) {
  for (const prometheus::MetricFamily& family : DocumentedFamilies()) {
    if (family.type != prometheus::MetricType::Histogram) continue;
    if (family.name.find("_seconds") == std::string::npos) continue;
    ASSERT_FALSE(family.metric.empty()) << family.name;
    EXPECT_DOUBLE_EQ(family.metric[0].histogram.bucket[0].upper_bound, 1e-4) << family.name;
  }
}

TEST(MetricReference, TellsWhatIsUndocumentedAndWhatIsGone) {
  std::vector<prometheus::MetricFamily> families = DocumentedFamilies();
  families[0].name = "based_new_total";
  const ReferenceFaults faults = CheckReference(families);
  EXPECT_EQ(faults.undocumented, std::vector<std::string>{"based_new_total"});
  EXPECT_EQ(faults.gone.size(), 1u);
}

}  // namespace
}  // namespace based
