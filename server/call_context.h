// What a call says about itself outside its message.
#ifndef BASED_SERVER_CALL_CONTEXT_H_
#define BASED_SERVER_CALL_CONTEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "grpcpp/grpcpp.h"

namespace based {

// The client's x-request-id when it is fit for logs, else a new one.
std::string RequestIdOf(const grpc::CallbackServerContext& context);

// The first value of a metadata key (lower case); empty when there is none. Valid as long as the
// call.
absl::string_view MetadataOf(const grpc::CallbackServerContext& context, const char* key);

// gRPC keeps deadlines on the wall clock; the engine counts on the steady one.
Clock::time_point DeadlineOf(const grpc::CallbackServerContext& context);

}  // namespace based

#endif  // BASED_SERVER_CALL_CONTEXT_H_
