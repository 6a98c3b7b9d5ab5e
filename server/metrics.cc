#include "server/metrics.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/refusal.h"
#include "server/metrics_text.h"
#include "server/status.h"
#include "server/version.h"

namespace based {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

constexpr std::array<const char*, 5> kFinishReasons = {"end_of_text", "stop_string", "stop_token",
                                                       "max_tokens", "constraint"};
constexpr std::array<const char*, 5> kErrorCodes = {
    "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"};
struct Rejection {
  const char* code;
  const char* reason;
};
// By RefusalReason.
constexpr std::array<Rejection, 6> kRefusals = {{{"RESOURCE_EXHAUSTED", "queue_full"},
                                                 {"RESOURCE_EXHAUSTED", "queue_tokens"},
                                                 {"RESOURCE_EXHAUSTED", "tenant_requests"},
                                                 {"RESOURCE_EXHAUSTED", "tenant_tokens"},
                                                 {"RESOURCE_EXHAUSTED", "tenant_concurrency"},
                                                 {"DEADLINE_EXCEEDED", "deadline"}}};
// Refused for another reason than load.
constexpr std::array<Rejection, 10> kRejections = {{{"INVALID_ARGUMENT", "request"},
                                                    {"NOT_FOUND", "request"},
                                                    {"FAILED_PRECONDITION", "request"},
                                                    {"UNIMPLEMENTED", "request"},
                                                    {"ABORTED", "session"},
                                                    {"ALREADY_EXISTS", "session"},
                                                    {"UNAUTHENTICATED", "credentials"},
                                                    {"PERMISSION_DENIED", "credentials"},
                                                    {"UNAVAILABLE", "unavailable"},
                                                    {"INTERNAL", "internal"}}};
constexpr std::array<const char*, 4> kCancelCauses = {"client", "deadline", "slow_reader", "drain"};
constexpr std::array<const char*, 2> kPriorities = {"interactive", "batch"};
constexpr std::array<const char*, 3> kLoadPhases = {"read", "compile", "total"};
constexpr std::array<const char*, 4> kEnginePhases = {"plan", "launch", "collect", "commit"};
constexpr std::array<const char*, 3> kStatusClasses = {"2xx", "4xx", "5xx"};
constexpr int kLongestPrompt = 20;  // power of two

// 1, 2.5, 5 per decade: a decode step of a small model takes well under a millisecond, a queued
// request may wait for minutes.
Buckets SecondsBuckets(double largest) {
  Buckets buckets;
  for (double decade = 1e-4; decade <= largest; decade *= 10) {
    for (double step : {1.0, 2.5, 5.0}) {
      if (decade * step <= largest) buckets.push_back(decade * step);
    }
  }
  return buckets;
}

Buckets PowersOfTwo(int largest_exponent) {
  Buckets buckets;
  for (int e = 0; e <= largest_exponent; ++e) buckets.push_back(static_cast<double>(1 << e));
  return buckets;
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

// A code outside the bounded set counts as INTERNAL, which is in the set of errors.
void Count(const std::map<std::string, prometheus::Counter*>& counters, const std::string& label,
           const char* otherwise) {
  const auto found = counters.find(label);
  (found == counters.end() ? counters.at(otherwise) : found->second)->Increment();
}

}  // namespace

Metrics::Metrics() {
  AddCapacity();
  AddRequests();
  AddLatencies();
  AddSteps();
  AddEngine();
  AddHttp();
  AddModel();
}

prometheus::Gauge* Metrics::NewGauge(const std::string& name, const std::string& help) {
  return &BuildGauge().Name(name).Help(help).Register(registry_).Add({});
}

prometheus::Counter* Metrics::NewCounter(const std::string& name, const std::string& help) {
  return &BuildCounter().Name(name).Help(help).Register(registry_).Add({});
}

prometheus::Histogram* Metrics::NewHistogram(const std::string& name, const std::string& help,
                                             const Buckets& buckets,
                                             const std::map<std::string, std::string>& labels) {
  return &BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels, buckets);
}

void Metrics::AddCapacity() {
  auto& slots = BuildGauge()
                    .Name("based_state_slots")
                    .Help("State slots; one sequence owns one slot")
                    .Register(registry_);
  slots_active_ = &slots.Add({{"state", "active"}});
  slots_free_ = &slots.Add({{"state", "free"}});
  slot_bytes_ = NewGauge("based_state_slot_bytes", "Bytes of one sequence's state");
  pool_bytes_ = NewGauge("based_state_pool_bytes", "Bytes of all state slots");
  weight_bytes_ = NewGauge("based_weight_bytes", "Bytes held for weights");
  workspace_bytes_ = NewGauge("based_workspace_bytes", "Bytes held for activations and logits");
  queued_ = NewGauge("based_queued_requests", "Requests waiting for a slot");
  queued_tokens_ =
      NewGauge("based_queued_tokens", "Prompt and output tokens, at most, waiting for a slot");
  parked_ = NewGauge("based_parked_sequences", "Sequences whose state waits in host memory");
  park_bytes_ = NewGauge("based_park_bytes",
                         "Host memory that states of parked sequences take; what was taken is kept "
                         "for others");
  park_limit_bytes_ = NewGauge("based_park_limit_bytes",
                               "Host memory that states of parked sequences may take: "
                               "--park_memory");
  predicted_wait_ = NewGauge("based_predicted_wait_seconds",
                             "Wait for a slot of an interactive request that came now");
  headroom_ = NewGauge("based_admission_headroom",
                       "Sequences that would take a slot at once: free slots less queued requests");
  full_speed_ = NewGauge("based_sustainable_tokens_per_second",
                         "Generated tokens per second with every slot decoding, as the measured "
                         "cost of steps predicts; 0 before the first step");
  auto& live = BuildGauge()
                   .Name("based_live_requests")
                   .Help("Requests that have not ended, by what they are doing")
                   .Register(registry_);
  live_ = {&live.Add({{"phase", "queued"}}), &live.Add({{"phase", "prefill"}}),
           &live.Add({{"phase", "decode"}})};
  streams_open_ = NewGauge("based_streams_open", "Generate calls that have not ended");
}

void Metrics::AddRequests() {
  auto& requests = BuildCounter()
                       .Name("based_requests_total")
                       .Help(
                           "Admitted requests that have ended, by status code and, for OK, by what "
                           "ended the text")
                       .Register(registry_);
  for (size_t i = 0; i < kFinishReasons.size(); ++i) {
    finished_[i] = &requests.Add({{"code", "OK"}, {"finish_reason", kFinishReasons[i]}});
  }
  for (const char* code : kErrorCodes) {
    failed_[code] = &requests.Add({{"code", code}, {"finish_reason", "none"}});
  }
  auto& rejections = BuildCounter()
                         .Name("based_rejections_total")
                         .Help(
                             "Requests refused before they were queued, by status code and "
                             "reason")
                         .Register(registry_);
  const auto add = [&](const Rejection& rejection) {
    return &rejections.Add({{"code", rejection.code}, {"reason", rejection.reason}});
  };
  for (const Rejection& refusal : kRefusals) {
    rejected_[refusal.reason] = add(refusal);
    rejected_codes_.try_emplace(refusal.code, rejected_[refusal.reason]);
  }
  for (const Rejection& rejection : kRejections) rejected_codes_[rejection.code] = add(rejection);
  auto& cancellations = BuildCounter()
                            .Name("based_cancellations_total")
                            .Help("Admitted requests that were ended early, by cause")
                            .Register(registry_);
  for (const char* cause : kCancelCauses) {
    cancelled_[cause] = &cancellations.Add({{"cause", cause}});
  }
  non_finite_ =
      NewCounter("based_nonfinite_requests_total",
                 "Requests that were ended because the model computed NaN or infinite logits");
  parks_ = NewCounter("based_parks_total",
                      "Sequences whose state went to host memory to make room for others");
  resumes_ = NewCounter("based_resumes_total",
                        "Parked sequences that took a slot again, their state bit for bit");
  deferred_rows_ = NewCounter("based_batch_rows_deferred_total",
                              "Decodes of batch work that were left out of a step to keep it short "
                              "for interactive work");
  NewCounter("based_preemptions_total",
             "Sequences whose state was thrown away to be recomputed; 0 by construction");
  prompt_tokens_ = NewCounter("based_prompt_tokens_total", "Prompt tokens computed");
  generated_tokens_ = NewCounter("based_generated_tokens_total", "Tokens generated");
}

Metrics::ByPriority Metrics::NewHistograms(const std::string& name, const std::string& help,
                                           const Buckets& buckets) {
  auto& family = BuildHistogram().Name(name).Help(help).Register(registry_);
  ByPriority histograms;
  for (size_t i = 0; i < kPriorities.size(); ++i) {
    histograms[i] = &family.Add({{"priority", kPriorities[i]}}, buckets);
  }
  return histograms;
}

void Metrics::AddLatencies() {
  first_token_ = NewHistograms("based_time_to_first_token_seconds",
                               "From submission to the first generated token", SecondsBuckets(100));
  inter_token_ =
      NewHistograms("based_inter_token_latency_seconds",
                    "Between consecutive generated tokens of a request", SecondsBuckets(10));
  end_to_end_ =
      NewHistograms("based_e2e_request_seconds",
                    "From submission to the last token of finished requests", SecondsBuckets(1000));
  queue_ =
      NewHistograms("based_queue_seconds", "From submission to the first step of finished requests",
                    SecondsBuckets(1000));
  prefill_ = NewHistograms("based_prefill_seconds",
                           "From the first step to the first generated token of finished requests",
                           SecondsBuckets(100));
  decode_ = NewHistograms("based_decode_seconds",
                          "From the first to the last generated token of finished requests",
                          SecondsBuckets(1000));
  inference_ = NewHistograms("based_inference_seconds",
                             "From the first step to the last generated token of finished requests",
                             SecondsBuckets(1000));
  per_token_ = NewHistograms("based_time_per_output_token_seconds",
                             "Mean time between the tokens of a finished request of two or more",
                             SecondsBuckets(10));
  stall_ = NewHistogram("based_stream_write_stall_seconds",
                        "Of each gRPC stream, the longest that one message waited for its reader",
                        SecondsBuckets(100));
}

void Metrics::AddSteps() {
  request_prompt_tokens_ =
      NewHistogram("based_request_prompt_tokens", "Prompt tokens of finished requests",
                   PowersOfTwo(kLongestPrompt));
  request_reused_tokens_ =
      NewHistogram("based_request_reused_tokens",
                   "Prompt tokens of finished requests that a session held: not computed again",
                   PowersOfTwo(kLongestPrompt));
  request_generated_tokens_ =
      NewHistogram("based_request_generated_tokens",
                   "Tokens generated by finished requests, of all their completions",
                   PowersOfTwo(kLongestPrompt));
  request_max_tokens_ = NewHistogram("based_request_max_tokens",
                                     "Tokens of a completion that finished requests asked for",
                                     PowersOfTwo(kLongestPrompt));
  request_completions_ =
      NewHistogram("based_request_completions", "Completions of finished requests", PowersOfTwo(6));
  step_ = NewHistogram("based_step_seconds", "One forward pass of a batch", SecondsBuckets(10));
  step_host_ = NewHistogram("based_step_host_seconds",
                            "Scheduling and bookkeeping of one step on the engine thread",
                            SecondsBuckets(1));
  auto& tokens = BuildHistogram()
                     .Name("based_step_tokens")
                     .Help("Tokens in one step, by phase")
                     .Register(registry_);
  step_decode_tokens_ = &tokens.Add({{"phase", "decode"}}, PowersOfTwo(14));
  step_prefill_tokens_ = &tokens.Add({{"phase", "prefill"}}, PowersOfTwo(14));
  batch_size_ = NewHistogram("based_batch_size", "Sequences in one step", PowersOfTwo(13));
}

void Metrics::AddEngine() {
  auto& phases = BuildCounter()
                     .Name("based_engine_seconds_total")
                     .Help(
                         "Time of the engine thread: planning a step, handing it to the device, "
                         "waiting for the device, handing out its tokens")
                     .Register(registry_);
  for (size_t i = 0; i < kEnginePhases.size(); ++i) {
    engine_seconds_[i] = &phases.Add({{"phase", kEnginePhases[i]}});
  }
  auto& steps = BuildCounter()
                    .Name("based_steps_total")
                    .Help("Steps, by whether one captured graph ran them")
                    .Register(registry_);
  steps_ = {&steps.Add({{"launch", "eager"}}), &steps.Add({{"launch", "graph"}})};
  padded_tokens_ = NewCounter("based_padded_tokens_total",
                              "Rows that the device computed in vain, to fill the graph of a step");
  auto& copies = BuildHistogram()
                     .Name("based_state_copy_seconds")
                     .Help("Copy of one sequence's state between its slot and host memory")
                     .Register(registry_);
  saved_ = &copies.Add({{"direction", "save"}}, SecondsBuckets(10));
  restored_ = &copies.Add({{"direction", "restore"}}, SecondsBuckets(10));
}

void Metrics::AddHttp() {
  auto& responses = BuildCounter()
                        .Name("based_http_responses_total")
                        .Help("Answers of the HTTP API, by class of status")
                        .Register(registry_);
  for (size_t i = 0; i < kStatusClasses.size(); ++i) {
    http_responses_[i] = &responses.Add({{"code", kStatusClasses[i]}});
  }
  loop_lag_ = NewHistogram("based_http_loop_lag_seconds",
                           "How late a timer of the HTTP API's I/O thread ran", SecondsBuckets(10));
}

void Metrics::AddModel() {
  build_info_ =
      &BuildGauge().Name("based_build_info").Help("Always 1; what is running").Register(registry_);
  layout_info_ = &BuildGauge()
                      .Name("based_state_layout_info")
                      .Help(
                          "Always 1; how the bytes of a state lie, equal where states can be "
                          "exchanged")
                      .Register(registry_);
  auto& load = BuildGauge()
                   .Name("based_load_seconds")
                   .Help(
                       "Loading the model: reading and checking the weights, bringing them to "
                       "the device, and all from the start of the process")
                   .Register(registry_);
  for (size_t i = 0; i < kLoadPhases.size(); ++i) {
    load_seconds_[i] = &load.Add({{"phase", kLoadPhases[i]}});
  }
}

void Metrics::OnStep(const StepStats& stats) {
  step_->Observe(Seconds(stats.duration));
  step_host_->Observe(Seconds(stats.host()));
  step_decode_tokens_->Observe(stats.decode_tokens);
  step_prefill_tokens_->Observe(stats.prefill_tokens);
  batch_size_->Observe(stats.sequences);
  prompt_tokens_->Increment(stats.prefill_tokens - stats.forced_rows);
  deferred_rows_->Increment(stats.deferred_rows);
  constraints_.OnForcedTokens(stats.forced_tokens);
  const std::array phases = {stats.plan, stats.launch, stats.wait, stats.commit};
  for (size_t i = 0; i < phases.size(); ++i) engine_seconds_[i]->Increment(Seconds(phases[i]));
  steps_[stats.replayed ? 1 : 0]->Increment();
  padded_tokens_->Increment(stats.padded_rows);
}

void Metrics::OnSlots(int32_t active, int32_t free, int32_t queued) {
  slots_active_->Set(active);
  slots_free_->Set(free);
  queued_->Set(queued);
}

void Metrics::OnParks(int32_t parks, int32_t resumes) {
  parks_->Increment(parks);
  resumes_->Increment(resumes);
}

void Metrics::OnStateSaved(std::chrono::nanoseconds took) { saved_->Observe(Seconds(took)); }

void Metrics::OnStateRestored(std::chrono::nanoseconds took) { restored_->Observe(Seconds(took)); }

void Metrics::OnStreamStalled(std::chrono::nanoseconds longest) {
  stall_->Observe(Seconds(longest));
}

void Metrics::OnHttpResponse(int status) {
  http_responses_[status < 400 ? 0 : status < 500 ? 1 : 2]->Increment();
}

void Metrics::OnHttpLoopLag(std::chrono::nanoseconds lag) {
  loop_lag_->Observe(std::max(0.0, Seconds(lag)));
}

void Metrics::OnFirstToken(Priority priority, std::chrono::nanoseconds since_submit) {
  first_token_[static_cast<size_t>(priority)]->Observe(Seconds(since_submit));
  generated_tokens_->Increment();
}

void Metrics::OnInterToken(Priority priority, std::chrono::nanoseconds gap) {
  inter_token_[static_cast<size_t>(priority)]->Observe(Seconds(gap));
  generated_tokens_->Increment();
}

void Metrics::OnFinished(Priority priority, const Finished& finished) {
  finished_[static_cast<size_t>(finished.reason)]->Increment();
  const auto of = static_cast<size_t>(priority);
  const Timings& timings = finished.timings;
  queue_[of]->Observe(Seconds(timings.queue));
  prefill_[of]->Observe(Seconds(timings.prefill));
  if (finished.generated_tokens > 0) decode_[of]->Observe(Seconds(timings.decode));
  inference_[of]->Observe(Seconds(timings.prefill + timings.decode));
  end_to_end_[of]->Observe(Seconds(timings.queue + timings.prefill + timings.decode));
  request_prompt_tokens_->Observe(static_cast<double>(finished.prompt_tokens));
  request_reused_tokens_->Observe(static_cast<double>(finished.reused_tokens));
  if (timings.decode_tokens > 0) {
    per_token_[of]->Observe(Seconds(timings.decode) / static_cast<double>(timings.decode_tokens));
  }
}

void Metrics::OnTotals(const RequestTotals& totals) {
  request_generated_tokens_->Observe(static_cast<double>(totals.generated_tokens));
  request_max_tokens_->Observe(static_cast<double>(totals.max_tokens));
  request_completions_->Observe(totals.completions);
}

void Metrics::OnError(const absl::Status& status) {
  Count(failed_, StatusCodeName(status.code()), "INTERNAL");
  if (IsNonFiniteLogits(status)) non_finite_->Increment();
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
      return cancelled_["client"]->Increment();
    case absl::StatusCode::kDeadlineExceeded:
      return cancelled_["deadline"]->Increment();
    case absl::StatusCode::kResourceExhausted:
      return cancelled_["slow_reader"]->Increment();
    case absl::StatusCode::kUnavailable:
      return cancelled_["drain"]->Increment();
    default:
      return;
  }
}

void Metrics::OnRejected(const absl::Status& status) {
  if (const std::optional<Refusal> refusal = RefusalOf(status)) {
    return rejected_.at(kRefusals[static_cast<size_t>(refusal->reason)].reason)->Increment();
  }
  Count(rejected_codes_, StatusCodeName(status.code()), "INTERNAL");
}

void Metrics::SetLive(const LivePhases& phases) {
  live_[0]->Set(static_cast<double>(phases.queued));
  live_[1]->Set(static_cast<double>(phases.prefill));
  live_[2]->Set(static_cast<double>(phases.decode));
}

void Metrics::SetBuildInfo(const std::string& backend, const std::string& model) {
  build_info_->Add({{"version", kVersion}, {"backend", backend}, {"model", model}}).Set(1);
}

void Metrics::SetStateLayout(const std::string& layout) {
  layout_info_->Add({{"layout", layout}}).Set(1);
}

void Metrics::SetModel(const Model& model, std::chrono::nanoseconds total) {
  const ExecutableInfo& info = model.executable->info();
  SetBuildInfo(info.backend, model.name);
  SetStateLayout(info.state_layout);
  load_seconds_[0]->Set(model.read_seconds);
  load_seconds_[1]->Set(model.compile_seconds);
  load_seconds_[2]->Set(Seconds(total));
}

void Metrics::SetCapacity(const Capacity& capacity) {
  OnSlots(capacity.slots_active, capacity.slots_free, capacity.queued_requests);
  queued_tokens_->Set(static_cast<double>(capacity.queued_tokens));
  parked_->Set(capacity.parked);
  park_bytes_->Set(static_cast<double>(capacity.park_bytes));
  park_limit_bytes_->Set(static_cast<double>(capacity.park_limit_bytes));
  predicted_wait_->Set(std::chrono::duration<double>(capacity.predicted_wait).count());
  headroom_->Set(std::max(0, capacity.slots_free - capacity.queued_requests));
  slot_bytes_->Set(static_cast<double>(capacity.slot_bytes));
  pool_bytes_->Set(static_cast<double>(capacity.pool_bytes));
  weight_bytes_->Set(static_cast<double>(capacity.weight_bytes));
  workspace_bytes_->Set(static_cast<double>(capacity.workspace_bytes));
}

std::vector<prometheus::MetricFamily> Metrics::Families() {
  process_.Read();
  gpus_.Read();
  return registry_.Collect();
}

std::string Metrics::Render(const std::set<std::string>& names) {
  return MetricsText(Families(), names);
}

}  // namespace based
