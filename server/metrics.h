// Prometheus series of the daemon, prefix based_, base units. Every series of a bounded label set
// exists from the start at 0. Thread-safe.
#ifndef BASED_SERVER_METRICS_H_
#define BASED_SERVER_METRICS_H_

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/observer.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
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
  void OnFirstToken(std::chrono::nanoseconds since_submit) override;
  void OnInterToken(std::chrono::nanoseconds gap) override;
  void OnFinished(const Finished& finished) override;
  void OnError(const absl::Status& status) override;
  // Called by the engine, and by the services for what they refuse before the engine sees it.
  void OnRejected(const absl::Status& status) override;

  // Called by the services.
  void OnStreamOpened() { streams_open_->Increment(); }
  void OnStreamClosed() { streams_open_->Decrement(); }

  // Labels of the one based_build_info series; `backend` is empty until a model is loaded.
  void SetBuildInfo(const std::string& backend, const std::string& model);
  void SetCapacity(const Capacity& capacity);
  void SetTenants(const std::vector<TenantUse>& tenants) { tenants_.Set(tenants); }
  void SetSessions(const SessionUse& use) { sessions_.Set(use); }

  // All series in Prometheus' text format, those of the process read at this moment.
  std::string Render();

 private:
  using Counters = std::map<std::string, prometheus::Counter*>;

  void AddCapacity();
  void AddRequests();
  void AddLatencies();
  void AddSteps();
  void AddProcess();

  prometheus::Gauge* NewGauge(const std::string& name, const std::string& help);
  prometheus::Histogram* NewHistogram(const std::string& name, const std::string& help,
                                      const prometheus::Histogram::BucketBoundaries& buckets,
                                      const std::map<std::string, std::string>& labels = {});

  // Constant after construction; the series in it synchronize themselves.
  prometheus::Registry registry_;
  TenantMetrics tenants_{registry_};
  SessionMetrics sessions_{registry_};
  prometheus::Family<prometheus::Gauge>* build_info_;

  prometheus::Gauge* slots_active_;
  prometheus::Gauge* slots_free_;
  prometheus::Gauge* slot_bytes_;
  prometheus::Gauge* pool_bytes_;
  prometheus::Gauge* weight_bytes_;
  prometheus::Gauge* workspace_bytes_;
  prometheus::Gauge* queued_;
  prometheus::Gauge* queued_tokens_;
  prometheus::Gauge* parked_;
  prometheus::Gauge* predicted_wait_;
  prometheus::Gauge* streams_open_;
  prometheus::Gauge* resident_bytes_;

  std::array<prometheus::Counter*, 4> finished_;  // by FinishReason
  Counters failed_;                               // by status code
  Counters rejected_;                             // by reason
  Counters rejected_codes_;                       // by status code, where nothing tells the reason
  Counters cancelled_;                            // by cause
  prometheus::Counter* parks_;
  prometheus::Counter* resumes_;
  prometheus::Counter* prompt_tokens_;
  prometheus::Counter* generated_tokens_;

  prometheus::Histogram* first_token_;
  prometheus::Histogram* inter_token_;
  prometheus::Histogram* end_to_end_;
  prometheus::Histogram* queue_;
  prometheus::Histogram* prefill_;
  prometheus::Histogram* step_;
  prometheus::Histogram* step_host_;
  prometheus::Histogram* step_decode_tokens_;
  prometheus::Histogram* step_prefill_tokens_;
  prometheus::Histogram* batch_size_;
};

}  // namespace based

#endif  // BASED_SERVER_METRICS_H_
