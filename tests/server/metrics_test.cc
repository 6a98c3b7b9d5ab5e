// What /metrics shows: every bounded series from the start, and what the observer adds.
#include "server/metrics.h"

#include "engine/refusal.h"
#include "gtest/gtest.h"

namespace based {
namespace {

bool HasLine(const std::string& text, const std::string& line) {
  return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, BoundedSeriesExistFromTheStartAtZero) {
  Metrics metrics;
  const std::string text = metrics.Render();
  for (const char* series :
       {"based_state_slots{state=\"active\"}", "based_state_slots{state=\"free\"}",
        "based_requests_total{code=\"OK\",finish_reason=\"end_of_text\"}",
        "based_requests_total{code=\"OK\",finish_reason=\"max_tokens\"}",
        "based_requests_total{code=\"DEADLINE_EXCEEDED\",finish_reason=\"none\"}",
        "based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"tenant_requests\"}",
        "based_rejections_total{code=\"DEADLINE_EXCEEDED\",reason=\"deadline\"}",
        "based_rejections_total{code=\"UNAVAILABLE\",reason=\"unavailable\"}",
        "based_parks_total", "based_resumes_total", "based_queued_tokens",
        "based_parked_sequences", "based_predicted_wait_seconds", "based_sessions",
        "based_session_bytes", "based_session_limit_bytes", "based_sessions_created_total",
        "based_session_resumes_total", "based_session_reused_tokens_total",
        "based_session_evictions_total{cause=\"memory\"}",
        "based_session_evictions_total{cause=\"idle\"}",
        "based_rejections_total{code=\"ABORTED\",reason=\"session\"}",
        "based_cancellations_total{cause=\"client\"}", "based_cancellations_total{cause=\"drain\"}",
        "based_preemptions_total", "based_prompt_tokens_total", "based_generated_tokens_total",
        "based_streams_open", "based_queued_requests",
        "based_time_to_first_token_seconds_bucket{le=\"0.0001\"}",
        "based_inter_token_latency_seconds_count", "based_e2e_request_seconds_count",
        "based_queue_seconds_count", "based_prefill_seconds_count", "based_step_seconds_count",
        "based_step_tokens_count{phase=\"decode\"}", "based_batch_size_count"}) {
    EXPECT_TRUE(HasLine(text, std::string(series) + " 0")) << series;
  }
  EXPECT_EQ(text.find(':', text.find("based_state_slots{")) < text.find('\n'), false);
}

TEST(Metrics, CountsWhatTheEngineTells) {
  Metrics metrics;
  metrics.OnStep({.decode_tokens = 3,
                  .prefill_tokens = 5,
                  .sequences = 4,
                  .duration = std::chrono::milliseconds(2)});
  metrics.OnFirstToken(std::chrono::milliseconds(1));
  metrics.OnInterToken(std::chrono::microseconds(50));
  Finished finished;
  finished.reason = FinishReason::kStopString;
  metrics.OnFinished(finished);
  metrics.OnError(absl::UnavailableError("cut"));
  metrics.OnRejected(absl::UnknownError("a code that is not in the set"));
  metrics.OnRejected(Refuse(absl::StatusCode::kResourceExhausted, "full",
                            {RefusalReason::kQueueTokens, std::chrono::milliseconds(5)}));
  metrics.OnParks(2, 1);
  metrics.OnSlots(2, 6, 1);
  metrics.OnStreamOpened();
  const std::string text = metrics.Render();
  for (const char* line :
       {"based_prompt_tokens_total 5", "based_generated_tokens_total 2",
        "based_step_tokens_sum{phase=\"decode\"} 3", "based_batch_size_sum 4",
        "based_inter_token_latency_seconds_bucket{le=\"0.0001\"} 1",
        "based_requests_total{code=\"OK\",finish_reason=\"stop_string\"} 1",
        "based_requests_total{code=\"UNAVAILABLE\",finish_reason=\"none\"} 1",
        "based_cancellations_total{cause=\"drain\"} 1",
        "based_rejections_total{code=\"INTERNAL\",reason=\"internal\"} 1",
        "based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"queue_tokens\"} 1",
        "based_parks_total 2", "based_resumes_total 1", "based_state_slots{state=\"active\"} 2",
        "based_queued_requests 1", "based_streams_open 1"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
}

TEST(Metrics, TenantsHaveSeriesAsLongAsTheyAreConfigured) {
  Metrics metrics;
  metrics.SetTenants({{.name = "", .tokens = 7},
                      {.name = "acme", .active = 2, .admitted = 5, .refused = 3, .tokens = 100}});
  metrics.SetTenants({{.name = "", .tokens = 7},
                      {.name = "acme", .active = 1, .admitted = 6, .refused = 3, .tokens = 130}});
  const std::string text = metrics.Render();
  for (const char* line :
       {"based_tenant_active_requests{tenant=\"acme\"} 1",
        "based_tenant_requests_total{result=\"admitted\",tenant=\"acme\"} 6",
        "based_tenant_requests_total{result=\"refused\",tenant=\"acme\"} 3",
        "based_tenant_tokens_total{tenant=\"acme\"} 130",
        "based_tenant_tokens_total{tenant=\"\"} 7"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
  metrics.SetTenants({{.name = ""}});
  EXPECT_EQ(metrics.Render().find("acme"), std::string::npos);
}

TEST(Metrics, ProcessSeriesAreReal) {
  Metrics metrics;
  metrics.SetBuildInfo("cpu", "demo");
  const std::string text = metrics.Render();
  EXPECT_NE(text.find("based_build_info{backend=\"cpu\",model=\"demo\",version=\""),
            std::string::npos);
  EXPECT_FALSE(HasLine(text, "based_process_resident_memory_bytes 0"));
}

TEST(Metrics, SessionsAreAsTheStoreSays) {
  Metrics metrics;
  metrics.SetSessions({.sessions = 3, .bytes = 300, .limit_bytes = 1000, .created = 7, .resumed = 5,
                       .evicted_memory = 2, .evicted_idle = 1, .reused_tokens = 900});
  metrics.SetSessions({.sessions = 2, .bytes = 200, .limit_bytes = 1000, .created = 8, .resumed = 6,
                       .evicted_memory = 2, .evicted_idle = 2, .reused_tokens = 950});
  const std::string text = metrics.Render();
  for (const char* line :
       {"based_sessions 2", "based_session_bytes 200", "based_session_limit_bytes 1000",
        "based_sessions_created_total 8", "based_session_resumes_total 6",
        "based_session_evictions_total{cause=\"memory\"} 2",
        "based_session_evictions_total{cause=\"idle\"} 2",
        "based_session_reused_tokens_total 950"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
}

}  // namespace
}  // namespace based
