// Flags of batch jobs: where they are kept, and how much of them.
#ifndef BASED_SERVER_BATCH_FLAGS_H_
#define BASED_SERVER_BATCH_FLAGS_H_

#include "absl/status/status.h"
#include "kernels/base/command_line.h"
#include "server/batch_store.h"

namespace based {

// INVALID_ARGUMENT in one line.
absl::Status ReadBatchFlags(BatchOptions& options);

FlagGroup BatchFlags();

}  // namespace based

#endif  // BASED_SERVER_BATCH_FLAGS_H_
