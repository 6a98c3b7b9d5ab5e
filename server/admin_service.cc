#include "server/admin_service.h"

#include "absl/strings/str_cat.h"
#include "server/answer_limit.h"
#include "server/call_context.h"
#include "server/log.h"
#include "server/status.h"

namespace based {
namespace {

constexpr double kDefaultWindowSeconds = 10;
constexpr double kLongestWindowSeconds = 3600;

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

v1::State StateToProto(DebugView::State state) {
  switch (state) {
    case DebugView::State::kLoading:
      return v1::STATE_LOADING;
    case DebugView::State::kReady:
      return v1::STATE_READY;
    case DebugView::State::kDraining:
      return v1::STATE_DRAINING;
    case DebugView::State::kFailed:
      return v1::STATE_FAILED;
  }
  return v1::STATE_UNSPECIFIED;
}

void StatusToProto(const DebugView& view, const std::vector<TenantLimits>& tenants,
                   v1::GetStatusResponse& message) {
  message.set_state(StateToProto(view.state));
  message.set_uptime_s(view.uptime_s);
  message.set_slots_total(view.capacity.slots_total);
  message.set_slots_active(view.capacity.slots_active);
  message.set_queued_requests(view.capacity.queued_requests);
  for (const LiveRequest& request : view.requests) {
    v1::LiveRequest& wire = *message.add_requests();
    wire.set_request_id(request.request_id);
    wire.set_tenant(request.tenant);
    wire.set_phase(std::string(request.phase));
    wire.set_position(request.position);
    wire.set_prompt_tokens(request.prompt_tokens);
    wire.set_generated_tokens(request.generated_tokens);
    wire.set_age_s(Seconds(request.age));
  }
  for (const TenantLimits& tenant : tenants) {
    v1::TenantLimits& wire = *message.add_tenants();
    wire.set_name(tenant.name);
    wire.set_weight(tenant.weight);
    wire.set_requests_per_second(tenant.requests_per_second);
    wire.set_tokens_per_second(tenant.tokens_per_second);
    wire.set_max_concurrent(tenant.max_concurrent);
  }
}

void ProfileToProto(const ProfileSummary& summary, v1::ProfileResponse& message) {
  message.set_steps(summary.steps);
  message.set_seconds(summary.seconds);
  message.set_decode_tokens(summary.decode_tokens);
  message.set_prefill_tokens(summary.prefill_tokens);
  message.set_sequences(summary.sequences);
  for (const PhaseSummary& phase : summary.phases) {
    v1::ProfileResponse::Phase& wire = *message.add_phases();
    wire.set_name(std::string(phase.phase));
    wire.set_mean_us(phase.mean_us);
    wire.set_p50_us(phase.p50_us);
    wire.set_p99_us(phase.p99_us);
    wire.set_max_us(phase.max_us);
  }
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::Answer(grpc::CallbackServerContext* context,
                                               absl::string_view method,
                                               const google::protobuf::Message& response,
                                               const std::function<absl::Status()>& work) const {
  const std::string request_id = RequestIdOf(*context);
  const std::string peer = context->peer();
  absl::Status status = Authorize(access_, Permission::kAdmin,
                                  {.authorization = MetadataOf(*context, "authorization"),
                                   .peer = peer,
                                   .request_id = request_id})
                            .status();
  if (status.ok()) status = work();
  const std::string code = StatusCodeName(status.code());
  Log(LogLevel::kInfo, "admin",
      {{"request_id", absl::string_view(request_id)},
       {"peer", absl::string_view(peer)},
       {"method", method},
       {"code", absl::string_view(code)},
       {"message", status.message()}});
  return UnaryAnswer::Ended(
      context, write_timeout_, response,
      grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message())));
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const v1::GetStatusRequest*,
                                                  v1::GetStatusResponse* response) {
  return Answer(context, "GetStatus", *response, [&] {
    StatusToProto(handlers_.status(), access_.tenants(), *response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::ReloadAccess(grpc::CallbackServerContext* context,
                                                     const v1::ReloadAccessRequest*,
                                                     v1::ReloadAccessResponse* response) {
  return Answer(context, "ReloadAccess", *response, [&] {
    const absl::Status status = handlers_.reload();
    return status.ok() ? status : absl::FailedPreconditionError(status.message());
  });
}

grpc::ServerUnaryReactor* AdminService::SetLimits(grpc::CallbackServerContext* context,
                                                  const v1::SetLimitsRequest* request,
                                                  v1::SetLimitsResponse* response) {
  const v1::TenantLimits& limits = request->limits();
  return Answer(context, "SetLimits", *response, [&] {
    return handlers_.set_limits({.name = limits.name(),
                                 .weight = limits.weight() == 0 ? 1 : limits.weight(),
                                 .requests_per_second = limits.requests_per_second(),
                                 .tokens_per_second = limits.tokens_per_second(),
                                 .max_concurrent = limits.max_concurrent()});
  });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest*,
                                              v1::DrainResponse* response) {
  return Answer(context, "Drain", *response, [&] {
    handlers_.drain();
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::Profile(grpc::CallbackServerContext* context,
                                                const v1::ProfileRequest* request,
                                                v1::ProfileResponse* response) {
  return Answer(context, "Profile", *response, [&]() -> absl::Status {
    const double window = request->window_s() == 0 ? kDefaultWindowSeconds : request->window_s();
    if (!(window > 0 && window <= kLongestWindowSeconds)) {
      return absl::InvalidArgumentError(
          absl::StrCat("window_s is ", window, "; expected (0, ", kLongestWindowSeconds, "]"));
    }
    ProfileToProto(handlers_.profile(std::chrono::duration_cast<std::chrono::nanoseconds>(
                       std::chrono::duration<double>(window))),
                   *response);
    return absl::OkStatus();
  });
}

}  // namespace based
