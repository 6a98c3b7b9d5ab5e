#include "engine/admission.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using std::chrono::milliseconds;

// Asked for while the cost of a step is unknown.
constexpr milliseconds kUnknownRetry(1000);
constexpr milliseconds kLeastRetry(10);
constexpr milliseconds kMostRetry(60'000);
// Slots come sooner than predicted where sequences are cancelled or end early, but hardly in less
// than this part of it (tests/sim/wait_test.cc). A deadline beyond might be met.
constexpr double kSureWait = 0.5;
// With several tenants each may hold this many times what it leaves free of the queue: one that
// floods it leaves a fifth to the others.
constexpr int64_t kShareOfFree = 4;

milliseconds ToMilliseconds(double seconds) {
  return milliseconds(static_cast<int64_t>(std::ceil(std::min(seconds, 1e9) * 1e3)));
}

std::string NameOf(const TenantLimits& limits) {
  return limits.name.empty() ? "the default tenant" : absl::StrCat("tenant '", limits.name, "'");
}

absl::Status CheckNumbers(const TenantLimits& limits) {
  const auto wrong = [&](absl::string_view what, double value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " of ", NameOf(limits), " is ", value, "; expected ", expected));
  };
  // Written so that NaN fails.
  if (!(limits.weight >= 1e-6 && limits.weight <= 1e6)) {
    return wrong("weight", limits.weight, "a number in [1e-6, 1e6]");
  }
  for (const auto& [what, rate] : {std::pair("requests_per_second", limits.requests_per_second),
                                   std::pair("tokens_per_second", limits.tokens_per_second)}) {
    if (!(rate >= 0 && rate <= 1e15)) return wrong(what, rate, "a number in [0 (no limit), 1e15]");
  }
  if (limits.max_concurrent < 0) {
    return wrong("max_concurrent", limits.max_concurrent, "0 (no limit) or more");
  }
  return absl::OkStatus();
}

}  // namespace

Admission::Admission(const QueueLimits& limits) : limits_(limits) {
  (void)SetTenants({});  // the default tenant alone
}

absl::Status Admission::SetTenants(std::vector<TenantLimits> tenants) {
  std::map<std::string, Tenant, std::less<>> next;
  for (TenantLimits& limits : tenants) {
    BASED_RETURN_IF_ERROR(CheckNumbers(limits));
    if (next.contains(limits.name)) {
      return absl::InvalidArgumentError(absl::StrCat(NameOf(limits), " is given twice"));
    }
    next[limits.name].limits = std::move(limits);
  }
  next.try_emplace("");
  for (auto& [name, tenant] : next) {
    if (const auto old = tenants_.find(name); old != tenants_.end()) {
      TenantLimits limits = std::move(tenant.limits);
      tenant = old->second;
      tenant.limits = std::move(limits);
    }
    const auto index = static_cast<int32_t>(indices_.size());
    tenant.index = indices_.try_emplace(name, index).first->second;
    tenant.requests.SetRate(tenant.limits.requests_per_second);
    tenant.tokens.SetRate(tenant.limits.tokens_per_second);
  }
  tenants_ = std::move(next);
  return absl::OkStatus();
}

absl::StatusOr<Admission::Tenant*> Admission::Find(absl::string_view name) {
  auto found = tenants_.find(std::string(name));
  if (found == tenants_.end() && tenants_.size() == 1) found = tenants_.find("");
  if (found != tenants_.end()) return &found->second;
  return absl::InvalidArgumentError(
      absl::StrCat("tenant is '", name, "', which this daemon does not know"));
}

absl::Status Admission::CheckRoom(absl::string_view name, bool batch) {
  BASED_ASSIGN_OR_RETURN(Tenant* const tenant, Find(name));
  const QueueLoad queued = load().queued();
  if (queued.requests < limits_.max_requests) return absl::OkStatus();
  ++tenant->refused;
  return Refuse(absl::StatusCode::kResourceExhausted,
                absl::StrCat("the queue is full: ", queued.requests,
                             " requests wait, the limit is ", limits_.max_requests),
                {RefusalReason::kQueueFull, RetryAfter(*tenant, batch)});
}

absl::StatusOr<AdmissionTicket> Admission::Admit(const AdmissionAsk& ask, Clock::time_point now) {
  BASED_RETURN_IF_ERROR(CheckRoom(ask.tenant, ask.batch));
  BASED_ASSIGN_OR_RETURN(Tenant* const tenant, Find(ask.tenant));
  const std::optional<double> wait = Predict(*tenant, ask.batch);
  absl::Status status = CheckQueue(*tenant, ask);
  if (status.ok()) status = CheckLimits(*tenant, ask, now);
  if (status.ok()) status = CheckDeadline(ask, wait.value_or(0), now);
  if (!status.ok()) {
    ++tenant->refused;
    return status;
  }
  ++tenant->admitted;
  tenant->requests.Take(1, now);
  tenant->tokens.Take(static_cast<double>(ask.load.tokens()), now);
  tenant->active->fetch_add(1);
  wait_.Queue(tenant->index, tenant->limits.weight, ask.batch, ask.load);
  const std::shared_ptr<std::atomic<int32_t>> active = tenant->active;
  return AdmissionTicket{
      .tenant = tenant->index,
      .weight = tenant->limits.weight,
      .lease = std::shared_ptr<const void>(active.get(), [active](const void*) { --*active; }),
      .predicted_wait = ToMilliseconds(wait.value_or(0))};
}

absl::Status Admission::CheckQueue(const Tenant& tenant, const AdmissionAsk& ask) const {
  const QueueLoad all = load().queued();
  QueueLoad own;
  if (static_cast<size_t>(tenant.index) < load().tenants.size()) {
    own = load().tenants[static_cast<size_t>(tenant.index)].interactive;
    own += load().tenants[static_cast<size_t>(tenant.index)].batch;
  }
  const milliseconds retry_after = RetryAfter(tenant, ask.batch);
  const int64_t tokens = ask.load.tokens();
  if (all.requests > 0 && all.tokens() + tokens > limits_.max_tokens) {
    return Refuse(absl::StatusCode::kResourceExhausted,
                  absl::StrCat("the queue is full: ", all.tokens(), " tokens wait, ", tokens,
                               " more are asked for, the limit is ", limits_.max_tokens),
                  {RefusalReason::kQueueTokens, retry_after});
  }
  if (tenants_.size() == 1 || own.requests == 0) return absl::OkStatus();
  if (own.requests >= kShareOfFree * (limits_.max_requests - all.requests)) {
    return Refuse(absl::StatusCode::kResourceExhausted,
                  absl::StrCat("the queue is full: ", own.requests, " of the ", all.requests,
                               " requests in it are of ", NameOf(tenant.limits)),
                  {RefusalReason::kQueueFull, retry_after});
  }
  if (own.tokens() + tokens > kShareOfFree * (limits_.max_tokens - all.tokens())) {
    return Refuse(absl::StatusCode::kResourceExhausted,
                  absl::StrCat("the queue is full: ", own.tokens(), " of the ", all.tokens(),
                               " tokens in it are of ", NameOf(tenant.limits)),
                  {RefusalReason::kQueueTokens, retry_after});
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckLimits(Tenant& tenant, const AdmissionAsk& ask,
                                    Clock::time_point now) const {
  const TenantLimits& limits = tenant.limits;
  const auto refuse = [&](RefusalReason reason, double seconds, absl::string_view what,
                          double limit) {
    return Refuse(absl::StatusCode::kResourceExhausted,
                  absl::StrCat(NameOf(limits), " is at its limit of ", limit, " ", what),
                  {reason, std::max(milliseconds(1), ToMilliseconds(seconds))});
  };
  if (limits.max_concurrent > 0 && *tenant.active >= limits.max_concurrent) {
    // The oldest of them may end at any time; a slot's turn is the best guess there is.
    const auto retry = std::chrono::duration<double>(RetryAfter(tenant, ask.batch)).count();
    return refuse(RefusalReason::kConcurrency, retry, "requests at a time", limits.max_concurrent);
  }
  if (const double wait = tenant.requests.SecondsUntil(1, now); wait > 0) {
    return refuse(RefusalReason::kRequestRate, wait, "requests per second",
                  limits.requests_per_second);
  }
  const auto tokens = static_cast<double>(ask.load.tokens());
  if (const double wait = tenant.tokens.SecondsUntil(tokens, now); wait > 0) {
    return refuse(RefusalReason::kTokenRate, wait, "tokens per second", limits.tokens_per_second);
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckDeadline(const AdmissionAsk& ask, double wait_seconds,
                                      Clock::time_point now) const {
  if (ask.deadline == Clock::time_point::max()) return absl::OkStatus();
  const double left = std::chrono::duration<double>(ask.deadline - now).count();
  const double prompt = static_cast<double>(ask.load.prompt_tokens) * load().prompt_seconds;
  const double least = kSureWait * wait_seconds;
  if (left > least + prompt) return absl::OkStatus();
  return Refuse(absl::StatusCode::kDeadlineExceeded,
                absl::StrCat("the deadline cannot be met: it is ",
                             ToMilliseconds(std::max(0.0, left)).count(),
                             " ms away, a slot at least ", ToMilliseconds(least).count(),
                             " ms and the prompt takes ", ToMilliseconds(prompt).count(), " ms"),
                {RefusalReason::kDeadline, milliseconds(0)});
}

std::optional<double> Admission::Predict(const Tenant& tenant, bool batch) const {
  return wait_.Predict(tenant.index, tenant.limits.weight, batch);
}

milliseconds Admission::RetryAfter(const Tenant& tenant, bool batch) const {
  const std::optional<double> wait = Predict(tenant, batch);
  if (!wait.has_value()) return kUnknownRetry;
  return std::clamp(ToMilliseconds(*wait), kLeastRetry, kMostRetry);
}

milliseconds Admission::predicted_wait() const {
  return ToMilliseconds(wait_.PredictLast().value_or(0));
}

std::vector<TenantUse> Admission::use() const {
  std::vector<TenantUse> all;
  for (const auto& [name, tenant] : tenants_) {
    const auto index = static_cast<size_t>(tenant.index);
    all.push_back({.name = name,
                   .active = *tenant.active,
                   .admitted = tenant.admitted,
                   .refused = tenant.refused,
                   .tokens = index < served_.size() ? served_[index] : 0});
  }
  return all;
}

}  // namespace based
