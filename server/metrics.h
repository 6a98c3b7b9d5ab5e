// Prometheus series of the daemon, prefix based_, base units. Every series of a bounded label set
// exists from the start at 0. Thread-safe.
#ifndef BASED_SERVER_METRICS_H_
#define BASED_SERVER_METRICS_H_

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/observer.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/registry.h"
#include "server/batch_metrics.h"
#include "server/constraint_metrics.h"
#include "server/gpu_metrics.h"
#include "server/live_requests.h"
#include "server/process_metrics.h"
#include "server/session_metrics.h"
#include "server/tenant_metrics.h"

namespace based {

class Metrics final : public Observer {
 public:
  Metrics();

  // Observer: called by the engine.
  void OnStep(const StepStats& stats) override;
  void OnSlots(int32_t active, int32_t free, int32_t queued) override;
  void OnParks(int32_t parks, int32_t resumes) override;
  void OnStateSaved(std::chrono::nanoseconds took) override;
  void OnStateRestored(std::chrono::nanoseconds took) override;
  void OnConstraint(const absl::Status& status, bool reused,
                    std::chrono::nanoseconds took) override {
    constraints_.OnConstraint(status, reused, took);
  }
  void OnFirstToken(Priority priority, std::chrono::nanoseconds since_submit) override;
  void OnInterToken(Priority priority, std::chrono::nanoseconds gap) override;
  void OnFinished(Priority priority, const Finished& finished) override;
  void OnTotals(const RequestTotals& totals) override;
  void OnError(const absl::Status& status) override;
  // Called by the engine, and by the services for what they refuse before the engine sees it.
  void OnRejected(const absl::Status& status) override;

  // Called by the services.
  void OnStreamOpened() { streams_open_->Increment(); }
  void OnStreamClosed() { streams_open_->Decrement(); }
  // Of one gRPC stream that is over: the longest time a message waited for its reader.
  void OnStreamStalled(std::chrono::nanoseconds longest);
  void OnHttpResponse(int status);
  // How late a timer of the HTTP API's I/O thread ran.
  void OnHttpLoopLag(std::chrono::nanoseconds lag);

  // Labels of the one based_build_info series; `backend` is empty until a model is loaded.
  void SetBuildInfo(const std::string& backend, const std::string& model);
  void SetStateLayout(const std::string& layout);
  // What is served, and what loading it took: `total` is from the start of the process.
  void SetModel(const Model& model, std::chrono::nanoseconds total);
  void SetCapacity(const Capacity& capacity);
  // Generated tokens per second that all slots together can draw; 0 while unknown.
  void SetFullSpeed(double tokens_per_second) { full_speed_->Set(tokens_per_second); }
  void SetLive(const LivePhases& phases);
  void SetTenants(const std::vector<TenantUse>& tenants) { tenants_.Set(tenants); }
  void SetBatches(const BatchUse& use) { batches_.Set(use); }
  void SetSessions(const SessionUse& use) { sessions_.Set(use); }

  // The series called `names`, or all where it is empty, in Prometheus' text format, those of the
  // process read at this moment.
  std::string Render(const std::set<std::string>& names = {});
  // The same as data, for the reference of metrics; see metric_reference.h.
  std::vector<prometheus::MetricFamily> Families();

 private:
  using Counters = std::map<std::string, prometheus::Counter*>;

  using ByPriority = std::array<prometheus::Histogram*, 2>;

  void AddCapacity();
  void AddRequests();
  void AddLatencies();
  void AddSteps();
  void AddEngine();
  void AddHttp();
  void AddModel();

  prometheus::Gauge* NewGauge(const std::string& name, const std::string& help);
  prometheus::Counter* NewCounter(const std::string& name, const std::string& help);
  prometheus::Histogram* NewHistogram(const std::string& name, const std::string& help,
                                      const prometheus::Histogram::BucketBoundaries& buckets,
                                      const std::map<std::string, std::string>& labels = {});
  ByPriority NewHistograms(const std::string& name, const std::string& help,
                           const prometheus::Histogram::BucketBoundaries& buckets);

  // Constant after construction; the series in it synchronize themselves.
  prometheus::Registry registry_;
  TenantMetrics tenants_{registry_};
  SessionMetrics sessions_{registry_};
  BatchMetrics batches_{registry_};
  ConstraintMetrics constraints_{registry_};
  ProcessMetrics process_{registry_};
  GpuMetrics gpus_{registry_};
  prometheus::Family<prometheus::Gauge>* build_info_;
  prometheus::Family<prometheus::Gauge>* layout_info_;
  std::array<prometheus::Gauge*, 3> load_seconds_;  // by kLoadPhases

  prometheus::Gauge* slots_active_;
  prometheus::Gauge* slots_free_;
  prometheus::Gauge* slot_bytes_;
  prometheus::Gauge* pool_bytes_;
  prometheus::Gauge* weight_bytes_;
  prometheus::Gauge* workspace_bytes_;
  prometheus::Gauge* queued_;
  prometheus::Gauge* queued_tokens_;
  prometheus::Gauge* parked_;
  prometheus::Gauge* park_bytes_;
  prometheus::Gauge* park_limit_bytes_;
  prometheus::Gauge* predicted_wait_;
  prometheus::Gauge* headroom_;
  prometheus::Gauge* full_speed_;
  std::array<prometheus::Gauge*, 3> live_;  // queued, prefill, decode
  prometheus::Gauge* streams_open_;

  std::array<prometheus::Counter*, 5> finished_;  // by FinishReason
  Counters failed_;                               // by status code
  Counters rejected_;                             // by reason
  Counters rejected_codes_;                       // by status code, where nothing tells the reason
  Counters cancelled_;                            // by cause
  prometheus::Counter* non_finite_;
  prometheus::Counter* parks_;
  prometheus::Counter* deferred_rows_;
  prometheus::Counter* resumes_;
  prometheus::Counter* prompt_tokens_;
  prometheus::Counter* generated_tokens_;
  std::array<prometheus::Counter*, 3> http_responses_;  // by kStatusClasses
  std::array<prometheus::Counter*, 4> engine_seconds_;  // by kEnginePhases
  std::array<prometheus::Counter*, 2> steps_;           // by StepStats::replayed
  prometheus::Counter* padded_tokens_;

  ByPriority first_token_;
  ByPriority inter_token_;
  ByPriority end_to_end_;
  ByPriority queue_;
  ByPriority prefill_;
  ByPriority decode_;
  ByPriority inference_;
  ByPriority per_token_;
  prometheus::Histogram* stall_;
  prometheus::Histogram* saved_;
  prometheus::Histogram* restored_;
  prometheus::Histogram* loop_lag_;
  prometheus::Histogram* request_prompt_tokens_;
  prometheus::Histogram* request_reused_tokens_;
  prometheus::Histogram* request_generated_tokens_;
  prometheus::Histogram* request_max_tokens_;
  prometheus::Histogram* request_completions_;
  prometheus::Histogram* step_;
  prometheus::Histogram* step_host_;
  prometheus::Histogram* step_decode_tokens_;
  prometheus::Histogram* step_prefill_tokens_;
  prometheus::Histogram* batch_size_;
};

}  // namespace based

#endif  // BASED_SERVER_METRICS_H_
