// Completions of a daemon.
#ifndef BASED_CLIENT_GENERATE_REMOTE_H_
#define BASED_CLIENT_GENERATE_REMOTE_H_

#include <functional>

#include "absl/status/status.h"
#include "based/v1/completion.pb.h"
#include "client/generate_event.h"
#include "client/generate_options.h"

namespace based {

v1::GenerateRequest ToProto(const GenerateOptions& options);
// REQUIRES: the message holds one of its kinds.
GenerateEvent FromProto(const v1::GenerateResponse& message);

// Asks the daemon at --address; see Generator.
absl::Status GenerateAtDaemon(const GenerateOptions& options,
                              const std::function<void(GenerateEvent)>& on_event);

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_REMOTE_H_
