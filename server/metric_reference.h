// The page that documents every series: deploy/docs/metrics.md, which `based-server
// --print_metrics_reference` prints. Name, type, help and labels come from the registry itself;
// what a registry does not hold stands in one table here.
//
// A new series needs one line in kNotes (metric_reference.cc). server_metric_reference_test says
// which, and that the page is to be printed anew.
#ifndef BASED_SERVER_METRIC_REFERENCE_H_
#define BASED_SERVER_METRIC_REFERENCE_H_

#include <string>
#include <vector>

#include "prometheus/metric_family.h"

namespace based {

// Every family that the daemon can have, a tenant and a GPU included.
std::vector<prometheus::MetricFamily> DocumentedFamilies();

// Names among `families` that kNotes lacks, and names in kNotes that are not among them.
struct ReferenceFaults {
  std::vector<std::string> undocumented;
  std::vector<std::string> gone;
};
ReferenceFaults CheckReference(const std::vector<prometheus::MetricFamily>& families);

// The page, in Markdown.
std::string MetricsReference(const std::vector<prometheus::MetricFamily>& families);

}  // namespace based

#endif  // BASED_SERVER_METRIC_REFERENCE_H_
