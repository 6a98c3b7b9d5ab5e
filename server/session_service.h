// based.v1.SessionService over the engine's sessions.
#ifndef BASED_SERVER_SESSION_SERVICE_H_
#define BASED_SERVER_SESSION_SERVICE_H_

#include <chrono>
#include <string>

#include "based/v1/session.grpc.pb.h"
#include "engine/session_store.h"
#include "server/gate.h"

namespace based {

class SessionService final : public v1::SessionService::CallbackService {
 public:
  // `gate` must outlive the service. `write_timeout`: see answer_limit.h.
  SessionService(const Gate& gate, std::chrono::milliseconds write_timeout)
      : gate_(gate), write_timeout_(write_timeout) {}

  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* context,
                                       const v1::GetSessionRequest* request,
                                       v1::Session* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ForkSession(grpc::CallbackServerContext* context,
                                        const v1::ForkSessionRequest* request,
                                        v1::Session* response) override;
  grpc::ServerUnaryReactor* DeleteSession(grpc::CallbackServerContext* context,
                                          const v1::DeleteSessionRequest* request,
                                          v1::DeleteSessionResponse* response) override;

 private:
  // The sessions, and in `tenant` whose of them the call may see.
  absl::StatusOr<SessionStore*> Enter(const grpc::CallbackServerContext& context,
                                      std::string& tenant) const;

  grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                   const google::protobuf::Message& response,
                                   const absl::Status& status) const;

  const Gate& gate_;
  const std::chrono::milliseconds write_timeout_;
};

// PERMISSION_DENIED, logged, when a request with a session comes with a key that may have none.
absl::Status CheckMayUseSession(const SessionAsk& session, const Caller& caller,
                                const grpc::CallbackServerContext& context,
                                absl::string_view request_id);

}  // namespace based

#endif  // BASED_SERVER_SESSION_SERVICE_H_
