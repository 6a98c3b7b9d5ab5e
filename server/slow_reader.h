// How a call ends whose client does not read.
#ifndef BASED_SERVER_SLOW_READER_H_
#define BASED_SERVER_SLOW_READER_H_

#include "absl/strings/string_view.h"
#include "grpcpp/grpcpp.h"

namespace based {

// A reference to the call of `context`, for CutSlowReader: to be taken under the lock that the
// call's end takes too, as the context does not outlive the call.
grpc_call* HoldCall(grpc::CallbackServerContext& context);

// Logs write_timeout, cancels the call and drops the reference. Not under a lock: the callbacks of
// the cancelled call may run inside.
void CutSlowReader(grpc_call* call, absl::string_view request_id);

}  // namespace based

#endif  // BASED_SERVER_SLOW_READER_H_
