#include "server/constraint_metrics.h"

namespace based {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1};

}  // namespace

ConstraintMetrics::ConstraintMetrics(prometheus::Registry& registry)
    : seconds_(&prometheus::BuildHistogram()
                    .Name("based_constraint_compile_seconds")
                    .Help("Compiling a constraint that was not known yet")
                    .Register(registry)
                    .Add({}, kSeconds)),
      forced_(&prometheus::BuildCounter()
                   .Name("based_forced_tokens_total")
                   .Help("Generated tokens that a constraint left no choice of: not drawn one by "
                         "one")
                   .Register(registry)
                   .Add({})) {
  auto& asked = prometheus::BuildCounter()
                    .Name("based_constraints_total")
                    .Help("Constraints that requests asked for, by what was made of them")
                    .Register(registry);
  compiled_ = &asked.Add({{"result", "compiled"}});
  reused_ = &asked.Add({{"result", "reused"}});
  refused_ = &asked.Add({{"result", "refused"}});
}

void ConstraintMetrics::OnConstraint(const absl::Status& status, bool reused,
                                     std::chrono::nanoseconds took) {
  if (!status.ok()) return refused_->Increment();
  if (reused) return reused_->Increment();
  compiled_->Increment();
  seconds_->Observe(std::chrono::duration<double>(took).count());
}

}  // namespace based
