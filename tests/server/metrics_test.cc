// What /metrics shows: every bounded series from the start, and what the observer adds.
#include "server/metrics.h"

#include "absl/algorithm/container.h"
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
       {"based_state_slots{state=\"active\"}",
        "based_state_slots{state=\"free\"}",
        "based_requests_total{code=\"OK\",finish_reason=\"end_of_text\"}",
        "based_requests_total{code=\"OK\",finish_reason=\"max_tokens\"}",
        "based_requests_total{code=\"DEADLINE_EXCEEDED\",finish_reason=\"none\"}",
        "based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"tenant_requests\"}",
        "based_rejections_total{code=\"DEADLINE_EXCEEDED\",reason=\"deadline\"}",
        "based_rejections_total{code=\"UNAVAILABLE\",reason=\"unavailable\"}",
        "based_parks_total",
        "based_batch_rows_deferred_total",
        "based_resumes_total",
        "based_queued_tokens",
        "based_parked_sequences",
        "based_predicted_wait_seconds",
        "based_sessions",
        "based_session_bytes",
        "based_session_limit_bytes",
        "based_sessions_created_total",
        "based_session_resumes_total",
        "based_session_reused_tokens_total",
        "based_session_evictions_total{cause=\"memory\"}",
        "based_session_evictions_total{cause=\"idle\"}",
        "based_rejections_total{code=\"ABORTED\",reason=\"session\"}",
        "based_cancellations_total{cause=\"client\"}",
        "based_cancellations_total{cause=\"drain\"}",
        "based_preemptions_total",
        "based_prompt_tokens_total",
        "based_generated_tokens_total",
        "based_streams_open",
        "based_queued_requests",
        "based_time_to_first_token_seconds_bucket{priority=\"interactive\",le=\"0.0001\"}",
        "based_inter_token_latency_seconds_count{priority=\"batch\"}",
        "based_e2e_request_seconds_count{priority=\"interactive\"}",
        "based_queue_seconds_count{priority=\"batch\"}",
        "based_prefill_seconds_count{priority=\"interactive\"}",
        "based_step_seconds_count",
        "based_step_tokens_count{phase=\"decode\"}",
        "based_batch_size_count"}) {
    EXPECT_TRUE(HasLine(text, std::string(series) + " 0")) << series;
  }
  EXPECT_EQ(text.find(':', text.find("based_state_slots{")) < text.find('\n'), false);
}

TEST(Metrics, CountsWhatTheEngineTells) {
  Metrics metrics;
  metrics.OnStep({.decode_tokens = 3,
                  .prefill_tokens = 5,
                  .deferred_rows = 6,
                  .sequences = 4,
                  .duration = std::chrono::milliseconds(2)});
  metrics.OnFirstToken(Priority::kInteractive, std::chrono::milliseconds(1));
  metrics.OnInterToken(Priority::kInteractive, std::chrono::microseconds(50));
  metrics.OnFirstToken(Priority::kBatch, std::chrono::seconds(9));
  metrics.OnInterToken(Priority::kBatch, std::chrono::seconds(2));
  Finished finished;
  finished.reason = FinishReason::kStopString;
  metrics.OnFinished(Priority::kInteractive, finished);
  metrics.OnError(absl::UnavailableError("cut"));
  metrics.OnError(absl::InternalError("the device failed"));
  metrics.OnError(NonFiniteLogits());
  metrics.OnRejected(absl::UnknownError("a code that is not in the set"));
  metrics.OnRejected(Refuse(absl::StatusCode::kResourceExhausted, "full",
                            {RefusalReason::kQueueTokens, std::chrono::milliseconds(5)}));
  metrics.OnParks(2, 1);
  metrics.OnSlots(2, 6, 1);
  metrics.OnStreamOpened();
  const std::string text = metrics.Render();
  for (const char* line :
       {"based_prompt_tokens_total 5",
        "based_generated_tokens_total 4",
        "based_step_tokens_sum{phase=\"decode\"} 3",
        "based_batch_size_sum 4",
        "based_inter_token_latency_seconds_bucket{priority=\"interactive\",le=\"0.0001\"} 1",
        "based_inter_token_latency_seconds_sum{priority=\"batch\"} 2",
        "based_time_to_first_token_seconds_count{priority=\"interactive\"} 1",
        "based_time_to_first_token_seconds_sum{priority=\"batch\"} 9",
        "based_requests_total{code=\"OK\",finish_reason=\"stop_string\"} 1",
        "based_requests_total{code=\"UNAVAILABLE\",finish_reason=\"none\"} 1",
        "based_cancellations_total{cause=\"drain\"} 1",
        "based_requests_total{code=\"INTERNAL\",finish_reason=\"none\"} 2",
        "based_nonfinite_requests_total 1",
        "based_rejections_total{code=\"INTERNAL\",reason=\"internal\"} 1",
        "based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"queue_tokens\"} 1",
        "based_batch_rows_deferred_total 6",
        "based_parks_total 2",
        "based_resumes_total 1",
        "based_state_slots{state=\"active\"} 2",
        "based_queued_requests 1",
        "based_streams_open 1"}) {
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
  for (const char* line : {"based_tenant_active_requests{tenant=\"acme\"} 1",
                           "based_tenant_requests_total{result=\"admitted\",tenant=\"acme\"} 6",
                           "based_tenant_requests_total{result=\"refused\",tenant=\"acme\"} 3",
                           "based_tenant_tokens_total{tenant=\"acme\"} 130",
                           "based_tenant_tokens_total{tenant=\"\"} 7"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
  metrics.SetTenants({{.name = ""}});
  EXPECT_EQ(metrics.Render().find("acme"), std::string::npos);
}

// A scrape is lines of text: a name that brings quotes or lines of its own must not add any.
TEST(Metrics, HostileLabelValuesStayValues) {
  Metrics metrics;
  const size_t lines = absl::c_count(metrics.Render(), '\n');
  metrics.SetTenants({{.name = "a\"} 1\nbased_preemptions_total 7\n#\\"}});
  metrics.SetBuildInfo("cpu", "x\",model=\"y\n");
  metrics.SetTenants({{.name = "a\"} 1\nbased_preemptions_total 7\n#\\"}});
  const std::string text = metrics.Render();
  EXPECT_TRUE(HasLine(text,
                      "based_tenant_tokens_total{tenant=\"a\\\"} 1\\nbased_preemptions_total "
                      "7\\n#\\\\\"} 0"))
      << text;
  EXPECT_NE(text.find("model=\"x\\\",model=\\\"y\\n\""), std::string::npos);
  EXPECT_TRUE(HasLine(text, "based_preemptions_total 0"));
  EXPECT_FALSE(HasLine(text, "based_preemptions_total 7"));
  // Four series of the tenant and one of the build, with two lines of help for each new family.
  EXPECT_EQ(absl::c_count(text, '\n') - lines, 4u + 1u + 2u * 4u);
}

TEST(Metrics, CountsWhatTheEngineTellsOfStepsCopiesAndStreams) {
  Metrics metrics;
  metrics.OnStep({.decode_tokens = 5,
                  .sequences = 5,
                  .padded_rows = 3,
                  .replayed = true,
                  .plan = std::chrono::milliseconds(1),
                  .launch = std::chrono::milliseconds(2),
                  .wait = std::chrono::milliseconds(500),
                  .commit = std::chrono::milliseconds(4)});
  metrics.OnStateSaved(std::chrono::milliseconds(1));
  metrics.OnStateRestored(std::chrono::milliseconds(2));
  metrics.OnStreamStalled(std::chrono::milliseconds(3));
  metrics.OnHttpResponse(204);
  metrics.OnHttpResponse(499);
  metrics.OnHttpLoopLag(std::chrono::milliseconds(-1));
  Finished finished{.prompt_tokens = 100, .reused_tokens = 60, .generated_tokens = 9};
  finished.timings.prefill = std::chrono::milliseconds(20);
  finished.timings.decode = std::chrono::milliseconds(80);
  finished.timings.decode_tokens = 8;
  metrics.OnFinished(Priority::kInteractive, finished);
  metrics.OnTotals({.completions = 3, .max_tokens = 20, .generated_tokens = 27});
  metrics.SetFullSpeed(1234);
  metrics.SetCapacity({.slots_total = 8,
                       .slots_active = 2,
                       .slots_free = 6,
                       .queued_requests = 2,
                       .park_bytes = 50,
                       .park_limit_bytes = 70});
  const std::string text = metrics.Render();
  for (const char* line : {"based_steps_total{launch=\"graph\"} 1",
                           "based_steps_total{launch=\"eager\"} 0",
                           "based_padded_tokens_total 3",
                           "based_engine_seconds_total{phase=\"collect\"} 0.5",
                           "based_state_copy_seconds_count{direction=\"save\"} 1",
                           "based_state_copy_seconds_sum{direction=\"restore\"} 0.002",
                           "based_stream_write_stall_seconds_count 1",
                           "based_http_responses_total{code=\"2xx\"} 1",
                           "based_http_responses_total{code=\"4xx\"} 1",
                           "based_http_loop_lag_seconds_sum 0",
                           "based_decode_seconds_sum{priority=\"interactive\"} 0.08",
                           "based_inference_seconds_sum{priority=\"interactive\"} 0.1",
                           "based_inference_seconds_count{priority=\"batch\"} 0",
                           "based_park_bytes 50",
                           "based_park_limit_bytes 70",
                           "based_request_prompt_tokens_sum 100",
                           "based_request_reused_tokens_sum 60",
                           "based_request_generated_tokens_sum 27",
                           "based_request_max_tokens_sum 20",
                           "based_request_completions_sum 3",
                           "based_time_per_output_token_seconds_sum{priority=\"interactive\"} 0.01",
                           "based_sustainable_tokens_per_second 1234",
                           "based_admission_headroom 4"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
}

TEST(Metrics, ProcessSeriesAreReal) {
  Metrics metrics;
  metrics.SetBuildInfo("cpu", "demo");
  const std::string text = metrics.Render();
  EXPECT_NE(text.find("based_build_info{backend=\"cpu\",model=\"demo\",version=\""),
            std::string::npos);
  for (const char* series : {"based_process_resident_memory_bytes", "based_process_open_fds",
                             "based_process_max_fds", "based_process_start_time_seconds"}) {
    EXPECT_FALSE(HasLine(text, std::string(series) + " 0")) << series;
    EXPECT_NE(text.find(std::string("\n") + series + " "), std::string::npos) << series;
  }
}

TEST(Metrics, SessionsAreAsTheStoreSays) {
  Metrics metrics;
  metrics.SetSessions({.sessions = 3,
                       .bytes = 300,
                       .limit_bytes = 1000,
                       .created = 7,
                       .resumed = 5,
                       .evicted_memory = 2,
                       .evicted_idle = 1,
                       .reused_tokens = 900,
                       .hits = 5});
  metrics.SetSessions({.sessions = 2,
                       .bytes = 200,
                       .limit_bytes = 1000,
                       .created = 8,
                       .resumed = 6,
                       .evicted_memory = 2,
                       .evicted_idle = 2,
                       .reused_tokens = 950,
                       .hits = 6,
                       .misses = 4,
                       .busy = 3,
                       .mismatches = 2});
  const std::string text = metrics.Render();
  for (const char* line :
       {"based_sessions 2", "based_session_bytes 200", "based_session_limit_bytes 1000",
        "based_sessions_created_total 8", "based_session_resumes_total 6",
        "based_session_evictions_total{cause=\"memory\"} 2",
        "based_session_evictions_total{cause=\"idle\"} 2", "based_session_reused_tokens_total 950",
        "based_session_lookups_total{result=\"hit\"} 6",
        "based_session_lookups_total{result=\"miss\"} 4",
        "based_session_lookups_total{result=\"busy\"} 3",
        "based_session_lookups_total{result=\"mismatch\"} 2"}) {
    EXPECT_TRUE(HasLine(text, line)) << line;
  }
}

}  // namespace
}  // namespace based
