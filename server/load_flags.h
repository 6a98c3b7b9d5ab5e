// Flags of what the daemon does when more is asked of it than it can give.
#ifndef BASED_SERVER_LOAD_FLAGS_H_
#define BASED_SERVER_LOAD_FLAGS_H_

#include "absl/status/status.h"
#include "engine/engine.h"
#include "kernels/base/command_line.h"

namespace based {

// INVALID_ARGUMENT in one line.
absl::Status ReadLoadFlags(EngineOptions& options);

FlagGroup LoadFlags();

}  // namespace based

#endif  // BASED_SERVER_LOAD_FLAGS_H_
