#include "server/slow_reader.h"

#include "server/log.h"

namespace based {

grpc_call* HoldCall(grpc::CallbackServerContext& context) {
  grpc_call* call = context.c_call();
  grpc_call_ref(call);
  return call;
}

void CutSlowReader(grpc_call* call, absl::string_view request_id) {
  Log(LogLevel::kWarning, "write_timeout", {{"request_id", request_id}});
  grpc_call_cancel_with_status(call, GRPC_STATUS_CANCELLED, "the client reads too slowly", nullptr);
  grpc_call_unref(call);
}

}  // namespace based
