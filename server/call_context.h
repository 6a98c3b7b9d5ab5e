// What a call says about itself outside its message.
#ifndef BASED_SERVER_CALL_CONTEXT_H_
#define BASED_SERVER_CALL_CONTEXT_H_

#include <string>

#include "engine/request.h"
#include "grpcpp/grpcpp.h"

namespace based {

// The client's x-request-id when it is fit for logs, else a new one.
std::string RequestIdOf(const grpc::CallbackServerContext& context);

// gRPC keeps deadlines on the wall clock; the engine counts on the steady one.
Clock::time_point DeadlineOf(const grpc::CallbackServerContext& context);

}  // namespace based

#endif  // BASED_SERVER_CALL_CONTEXT_H_
