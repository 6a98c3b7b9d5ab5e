// An Engine that remembers what runs on the one behind it, for people who look: the requests of
// every way in. Thread-safe, as Engine is.
#ifndef BASED_SERVER_LIVE_REQUESTS_H_
#define BASED_SERVER_LIVE_REQUESTS_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/engine.h"

namespace based {

struct LiveRequest {
  std::string request_id;
  std::string tenant;
  absl::string_view phase;       // "queued", "prefill" or "decode"
  int64_t prompt_tokens = 0;     // 0 while queued
  int64_t generated_tokens = 0;  // of all its completions
  int64_t position = 0;          // tokens behind it, once it decodes
  std::vector<int32_t> slots;    // that it holds: none while it waits, one per completion
  std::chrono::nanoseconds age{0};
};

// A request that is over.
struct EndedRequest {
  std::string request_id;
  std::string tenant;
  std::string outcome;  // what ended its text, or the code of its status
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  std::chrono::nanoseconds first_token{0};  // after it came; 0: there was none
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds ago{0};
};

// How many requests are in each phase.
struct LivePhases {
  int64_t queued = 0;
  int64_t prefill = 0;
  int64_t decode = 0;
};

class LiveRequests final : public Engine {
 public:
  // `engine` must outlive this; its sinks may outlive both.
  explicit LiveRequests(Engine& engine);
  ~LiveRequests() override;

  static constexpr size_t kMostEnded = 32;

  // Oldest first.
  std::vector<LiveRequest> List() const;
  LivePhases Phases() const;
  // The last kMostEnded that are over, the latest first.
  std::vector<EndedRequest> Ended() const;

  absl::StatusOr<RequestId> Submit(Request request, std::shared_ptr<TokenSink> sink) override;

  void Cancel(RequestId id, absl::Status status) override { engine_.Cancel(id, std::move(status)); }
  absl::Status SetTenants(std::vector<TenantLimits> tenants) override {
    return engine_.SetTenants(std::move(tenants));
  }
  std::vector<TenantUse> tenants() const override { return engine_.tenants(); }
  SessionStore* sessions() override { return engine_.sessions(); }
  Capacity capacity() const override { return engine_.capacity(); }
  const Model& model() const override { return engine_.model(); }
  bool Drain(std::chrono::milliseconds limit) override { return engine_.Drain(limit); }
  absl::Status health() const override { return engine_.health(); }

 private:
  class Table;
  class Sink;

  Engine& engine_;
  const std::shared_ptr<Table> table_;
};

}  // namespace based

#endif  // BASED_SERVER_LIVE_REQUESTS_H_
