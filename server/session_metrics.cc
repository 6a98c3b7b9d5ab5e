#include "server/session_metrics.h"

#include <algorithm>
#include <string>

namespace based {
namespace {

prometheus::Gauge* NewGauge(prometheus::Registry& registry, const std::string& name,
                            const std::string& help) {
  return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Counter* NewCounter(prometheus::Registry& registry, const std::string& name,
                                const std::string& help) {
  return &prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

// Brings a counter to what the store has counted; it never goes back.
void Raise(prometheus::Counter& counter, int64_t to) {
  counter.Increment(std::max(0.0, static_cast<double>(to) - counter.Value()));
}

}  // namespace

SessionMetrics::SessionMetrics(prometheus::Registry& registry)
    : sessions_(NewGauge(registry, "based_sessions", "Sessions that are kept or being made")),
      bytes_(NewGauge(registry, "based_session_bytes", "Host memory that sessions take")),
      limit_bytes_(NewGauge(registry, "based_session_limit_bytes",
                            "Host memory that sessions may take: --session_memory")),
      created_(NewCounter(registry, "based_sessions_created_total",
                          "Sessions made, forks and those whose first call failed included")),
      resumed_(NewCounter(registry, "based_session_resumes_total",
                          "Calls that went on from a session's state, to their end")),
      reused_tokens_(NewCounter(registry, "based_session_reused_tokens_total",
                                "Prompt tokens that those calls found computed")) {
  auto& evictions = prometheus::BuildCounter()
                        .Name("based_session_evictions_total")
                        .Help("Sessions dropped to make room for others, or idle for too long")
                        .Register(registry);
  evicted_memory_ = &evictions.Add({{"cause", "memory"}});
  evicted_idle_ = &evictions.Add({{"cause", "idle"}});
  auto& lookups = prometheus::BuildCounter()
                      .Name("based_session_lookups_total")
                      .Help("Calls that asked for a session's state, by what they found")
                      .Register(registry);
  hits_ = &lookups.Add({{"result", "hit"}});
  misses_ = &lookups.Add({{"result", "miss"}});
  busy_ = &lookups.Add({{"result", "busy"}});
  mismatches_ = &lookups.Add({{"result", "mismatch"}});
}

void SessionMetrics::Set(const SessionUse& use) {
  MutexLock lock(mutex_);
  sessions_->Set(static_cast<double>(use.sessions));
  bytes_->Set(static_cast<double>(use.bytes));
  limit_bytes_->Set(static_cast<double>(use.limit_bytes));
  Raise(*created_, use.created);
  Raise(*resumed_, use.resumed);
  Raise(*evicted_memory_, use.evicted_memory);
  Raise(*evicted_idle_, use.evicted_idle);
  Raise(*reused_tokens_, use.reused_tokens);
  Raise(*hits_, use.hits);
  Raise(*misses_, use.misses);
  Raise(*busy_, use.busy);
  Raise(*mismatches_, use.mismatches);
}

}  // namespace based
