#include "server/session_service.h"

#include <chrono>

#include "kernels/base/status.h"
#include "server/answer_limit.h"
#include "server/call_context.h"
#include "server/page.h"
#include "server/status.h"

namespace based {
namespace {

int64_t Milliseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

void ToProto(const SessionInfo& info, v1::Session& message) {
  message.set_id(info.id);
  message.set_tokens(info.tokens);
  message.set_bytes(info.bytes);
  message.set_busy(info.busy);
  message.set_age_ms(Milliseconds(info.age));
  message.set_idle_ms(Milliseconds(info.idle));
}

absl::Status Answer(const absl::StatusOr<SessionInfo>& info, v1::Session& message) {
  if (info.ok()) ToProto(*info, message);
  return info.status();
}

absl::Status List(SessionStore& store, const std::string& tenant,
                  const v1::ListSessionsRequest& request, v1::ListSessionsResponse& response) {
  BASED_ASSIGN_OR_RETURN(const int32_t size, PageSizeOf(request));
  const auto most = static_cast<size_t>(size);
  const auto sessions = store.List(tenant, request.page_token(), most + 1);
  for (const SessionInfo& info : sessions) {
    if (response.sessions_size() == size) {
      response.set_next_page_token(response.sessions(size - 1).id());
      break;
    }
    ToProto(info, *response.add_sessions());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SessionStore*> SessionService::Enter(const grpc::CallbackServerContext& context,
                                                    std::string& tenant) const {
  BASED_ASSIGN_OR_RETURN(const Gate::Entry entry, gate_.Enter(context, Permission::kSessions));
  BASED_RETURN_IF_ERROR(ApplyTenant(entry.caller, tenant));
  SessionStore* store = entry.engine.sessions();
  if (store == nullptr) return absl::FailedPreconditionError("this daemon keeps no sessions");
  return store;
}

grpc::ServerUnaryReactor* SessionService::Finish(grpc::CallbackServerContext* context,
                                                 const google::protobuf::Message& response,
                                                 const absl::Status& status) const {
  return UnaryAnswer::Ended(context, write_timeout_, response,
                            FailCall(context, status, FailedAt::kAdmission));
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const v1::GetSessionRequest* request,
                                                     v1::Session* response) {
  std::string tenant = request->tenant();
  const absl::StatusOr<SessionStore*> store = Enter(*context, tenant);
  absl::Status status = store.status();
  if (status.ok()) status = CheckSessionId("id", request->id());
  if (status.ok()) status = Answer((*store)->Get(tenant, request->id()), *response);
  return Finish(context, *response, status);
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const v1::ListSessionsRequest* request,
                                                       v1::ListSessionsResponse* response) {
  std::string tenant = request->tenant();
  const absl::StatusOr<SessionStore*> store = Enter(*context, tenant);
  return Finish(context, *response,
                store.ok() ? List(**store, tenant, *request, *response) : store.status());
}

grpc::ServerUnaryReactor* SessionService::ForkSession(grpc::CallbackServerContext* context,
                                                      const v1::ForkSessionRequest* request,
                                                      v1::Session* response) {
  std::string tenant = request->tenant();
  const absl::StatusOr<SessionStore*> store = Enter(*context, tenant);
  absl::Status status = store.status();
  if (status.ok()) status = CheckSessionId("id", request->id());
  if (status.ok()) status = CheckSessionId("new_id", request->new_id());
  if (status.ok()) {
    status = Answer((*store)->Fork(tenant, request->id(), request->new_id()), *response);
  }
  return Finish(context, *response, status);
}

grpc::ServerUnaryReactor* SessionService::DeleteSession(grpc::CallbackServerContext* context,
                                                        const v1::DeleteSessionRequest* request,
                                                        v1::DeleteSessionResponse* response) {
  std::string tenant = request->tenant();
  const absl::StatusOr<SessionStore*> store = Enter(*context, tenant);
  absl::Status status = store.status();
  if (status.ok()) status = CheckSessionId("id", request->id());
  if (status.ok()) status = (*store)->Delete(tenant, request->id());
  return Finish(context, *response, status);
}

absl::Status CheckMayUseSession(const SessionAsk& session, const Caller& caller,
                                const grpc::CallbackServerContext& context,
                                absl::string_view request_id) {
  if (session.id.empty()) return absl::OkStatus();
  const std::string peer = context.peer();
  return CheckPermission(caller, Permission::kSessions,
                         {.authorization = "", .peer = peer, .request_id = request_id});
}

}  // namespace based
