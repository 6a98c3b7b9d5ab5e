// Who may queue: tenants with their limits, the queue's bounds, and deadlines that can be met.
// Not thread-safe but for the counts of tenants, which go down from any thread.
#ifndef BASED_ENGINE_ADMISSION_H_
#define BASED_ENGINE_ADMISSION_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "engine/tenant.h"
#include "engine/token_bucket.h"
#include "engine/wait_model.h"

namespace based {

struct QueueLimits {
  int32_t max_requests = 1;
  int64_t max_tokens = 1;  // prompt and output; one request may always wait
};

// What admission needs to know of a request.
struct AdmissionAsk {
  absl::string_view tenant;
  bool batch = false;
  QueueLoad load;  // of this request
  Clock::time_point deadline = Clock::time_point::max();
};

struct AdmissionTicket {
  int32_t tenant = 0;  // index, as long as the process lives
  double weight = 1;
  // The request counts against its tenant's max_concurrent until the last copy is gone.
  std::shared_ptr<const void> lease;
  std::chrono::milliseconds predicted_wait{0};
};

class Admission {
 public:
  explicit Admission(const QueueLimits& limits);

  // Replaces all tenants; what has been admitted stays. INVALID_ARGUMENT names the tenant and the
  // limit. Tenants that stay keep their counts.
  absl::Status SetTenants(std::vector<TenantLimits> tenants);

  // OK when a request of `tenant` may be made at all:
  //   INVALID_ARGUMENT    the tenant is unknown; one is as good as none while none are set
  //   RESOURCE_EXHAUSTED  the queue has no room whatever the request's size
  absl::Status CheckRoom(absl::string_view tenant, bool batch);

  // Takes the request in. Errors of CheckRoom, and
  //   RESOURCE_EXHAUSTED  tokens of the queue, rates or concurrency of the tenant
  //   DEADLINE_EXCEEDED   no token would come in time, if the wait were half of what is predicted
  // Errors carry a Refusal.
  absl::StatusOr<AdmissionTicket> Admit(const AdmissionAsk& ask, Clock::time_point now);

  // What waits now and how fast it goes, as the engine knows it. What was admitted since and is not
  // in `load` yet is added by the caller.
  void SetLoad(EngineLoad load) { wait_.SetLoad(std::move(load)); }
  const EngineLoad& load() const { return wait_.load(); }
  // Tokens that tenants have been served, by index.
  void SetServed(const std::vector<int64_t>& tokens) { served_ = tokens; }

  // Wait for a slot of an interactive request behind all that wait.
  std::chrono::milliseconds predicted_wait() const;

  std::vector<TenantUse> use() const;

 private:
  struct Tenant {
    TenantLimits limits;
    int32_t index = 0;
    TokenBucket requests;
    TokenBucket tokens;
    int64_t admitted = 0;
    int64_t refused = 0;
    std::shared_ptr<std::atomic<int32_t>> active = std::make_shared<std::atomic<int32_t>>(0);
  };

  absl::StatusOr<Tenant*> Find(absl::string_view name);
  absl::Status CheckQueue(const Tenant& tenant, const AdmissionAsk& ask) const;
  absl::Status CheckLimits(Tenant& tenant, const AdmissionAsk& ask, Clock::time_point now) const;
  absl::Status CheckDeadline(const AdmissionAsk& ask, double wait_seconds,
                             Clock::time_point now) const;
  std::optional<double> Predict(const Tenant& tenant, bool batch) const;
  std::chrono::milliseconds RetryAfter(const Tenant& tenant, bool batch) const;

  const QueueLimits limits_;
  std::map<std::string, Tenant, std::less<>> tenants_;
  std::map<std::string, int32_t, std::less<>> indices_;  // of every name there ever was
  WaitModel wait_;
  std::vector<int64_t> served_;
};

}  // namespace based

#endif  // BASED_ENGINE_ADMISSION_H_
