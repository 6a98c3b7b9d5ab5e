#include "server/metrics.h"

#include <chrono>
#include <vector>

#include "engine/refusal.h"
#include "prometheus/text_serializer.h"
#include "server/process_memory.h"
#include "server/status.h"
#include "server/version.h"

namespace based {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

constexpr std::array<const char*, 4> kFinishReasons = {"end_of_text", "stop_string", "stop_token",
                                                       "max_tokens"};
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
  AddProcess();
}

prometheus::Gauge* Metrics::NewGauge(const std::string& name, const std::string& help) {
  return &BuildGauge().Name(name).Help(help).Register(registry_).Add({});
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
  predicted_wait_ = NewGauge("based_predicted_wait_seconds",
                             "Wait for a slot of an interactive request that came now");
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
                         .Help("Requests refused before they were queued, by status code and "
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
  parks_ = &BuildCounter()
                .Name("based_parks_total")
                .Help("Sequences whose state went to host memory to make room for others")
                .Register(registry_)
                .Add({});
  resumes_ = &BuildCounter()
                  .Name("based_resumes_total")
                  .Help("Parked sequences that took a slot again, their state bit for bit")
                  .Register(registry_)
                  .Add({});
  BuildCounter()
      .Name("based_preemptions_total")
      .Help("Sequences whose state was thrown away to be recomputed; 0 by construction")
      .Register(registry_)
      .Add({});
  prompt_tokens_ = &BuildCounter()
                        .Name("based_prompt_tokens_total")
                        .Help("Prompt tokens computed")
                        .Register(registry_)
                        .Add({});
  generated_tokens_ = &BuildCounter()
                           .Name("based_generated_tokens_total")
                           .Help("Tokens generated")
                           .Register(registry_)
                           .Add({});
}

void Metrics::AddLatencies() {
  first_token_ = NewHistogram("based_time_to_first_token_seconds",
                              "From submission to the first generated token", SecondsBuckets(100));
  inter_token_ = NewHistogram("based_inter_token_latency_seconds",
                              "Between consecutive generated tokens of a request",
                              SecondsBuckets(10));
  end_to_end_ = NewHistogram("based_e2e_request_seconds",
                             "From submission to the last token of finished requests",
                             SecondsBuckets(1000));
  queue_ = NewHistogram("based_queue_seconds",
                        "From submission to the first step of finished requests",
                        SecondsBuckets(1000));
  prefill_ = NewHistogram("based_prefill_seconds",
                          "From the first step to the first generated token of finished requests",
                          SecondsBuckets(100));
}

void Metrics::AddSteps() {
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

void Metrics::AddProcess() {
  build_info_ = &BuildGauge()
                     .Name("based_build_info")
                     .Help("Always 1; what is running")
                     .Register(registry_);
  resident_bytes_ =
      NewGauge("based_process_resident_memory_bytes", "Resident memory of the daemon");
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  NewGauge("based_process_start_time_seconds", "Start of the daemon, seconds since 1970")
      ->Set(std::chrono::duration<double>(now).count());
}

void Metrics::OnStep(const StepStats& stats) {
  step_->Observe(Seconds(stats.duration));
  step_host_->Observe(Seconds(stats.host()));
  step_decode_tokens_->Observe(stats.decode_tokens);
  step_prefill_tokens_->Observe(stats.prefill_tokens);
  batch_size_->Observe(stats.sequences);
  prompt_tokens_->Increment(stats.prefill_tokens);
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

void Metrics::OnFirstToken(std::chrono::nanoseconds since_submit) {
  first_token_->Observe(Seconds(since_submit));
  generated_tokens_->Increment();
}

void Metrics::OnInterToken(std::chrono::nanoseconds gap) {
  inter_token_->Observe(Seconds(gap));
  generated_tokens_->Increment();
}

void Metrics::OnFinished(const Finished& finished) {
  finished_[static_cast<size_t>(finished.reason)]->Increment();
  const Timings& timings = finished.timings;
  queue_->Observe(Seconds(timings.queue));
  prefill_->Observe(Seconds(timings.prefill));
  end_to_end_->Observe(Seconds(timings.queue + timings.prefill + timings.decode));
}

void Metrics::OnError(const absl::Status& status) {
  Count(failed_, StatusCodeName(status.code()), "INTERNAL");
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

void Metrics::SetBuildInfo(const std::string& backend, const std::string& model) {
  build_info_->Add({{"version", kVersion}, {"backend", backend}, {"model", model}}).Set(1);
}

void Metrics::SetCapacity(const Capacity& capacity) {
  OnSlots(capacity.slots_active, capacity.slots_free, capacity.queued_requests);
  queued_tokens_->Set(static_cast<double>(capacity.queued_tokens));
  parked_->Set(capacity.parked);
  predicted_wait_->Set(std::chrono::duration<double>(capacity.predicted_wait).count());
  slot_bytes_->Set(static_cast<double>(capacity.slot_bytes));
  pool_bytes_->Set(static_cast<double>(capacity.pool_bytes));
  weight_bytes_->Set(static_cast<double>(capacity.weight_bytes));
  workspace_bytes_->Set(static_cast<double>(capacity.workspace_bytes));
}

std::string Metrics::Render() {
  resident_bytes_->Set(static_cast<double>(ResidentBytes()));
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace based
