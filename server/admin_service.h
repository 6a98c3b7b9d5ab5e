// based.v1.AdminService: what operators ask of a running daemon.
#ifndef BASED_SERVER_ADMIN_SERVICE_H_
#define BASED_SERVER_ADMIN_SERVICE_H_

#include <chrono>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "based/v1/admin.grpc.pb.h"
#include "server/access.h"
#include "server/debug_view.h"

namespace based {

// What the daemon does when asked; called from gRPC's threads.
struct AdminHandlers {
  std::function<DebugView()> status;
  std::function<absl::Status()> reload;
  std::function<absl::Status(const TenantLimits&)> set_limits;
  std::function<void()> drain;
  std::function<ProfileSummary(std::chrono::nanoseconds window)> profile;
};

class AdminService final : public v1::AdminService::CallbackService {
 public:
  // `access` must outlive the service. `write_timeout`: see answer_limit.h.
  AdminService(const AccessControl& access, AdminHandlers handlers,
               std::chrono::milliseconds write_timeout)
      : access_(access), handlers_(std::move(handlers)), write_timeout_(write_timeout) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ReloadAccess(grpc::CallbackServerContext* context,
                                         const v1::ReloadAccessRequest* request,
                                         v1::ReloadAccessResponse* response) override;
  grpc::ServerUnaryReactor* SetLimits(grpc::CallbackServerContext* context,
                                      const v1::SetLimitsRequest* request,
                                      v1::SetLimitsResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* Profile(grpc::CallbackServerContext* context,
                                    const v1::ProfileRequest* request,
                                    v1::ProfileResponse* response) override;

 private:
  // Checks the caller, does `work`, logs the event "admin" and finishes the call with `response`.
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, absl::string_view method,
                                   const google::protobuf::Message& response,
                                   const std::function<absl::Status()>& work) const;

  const AccessControl& access_;
  const AdminHandlers handlers_;
  const std::chrono::milliseconds write_timeout_;
};

}  // namespace based

#endif  // BASED_SERVER_ADMIN_SERVICE_H_
