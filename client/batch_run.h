// Runs a batch over one daemon: keeps its slots filled, every result goes to the journal.
#ifndef BASED_CLIENT_BATCH_RUN_H_
#define BASED_CLIENT_BATCH_RUN_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "based/v1/completion.pb.h"
#include "client/batch_progress.h"
#include "engine/batch_journal.h"
#include "engine/batch_plan.h"
#include "grpcpp/grpcpp.h"

namespace based {

struct BatchRunOptions {
  std::string model;        // asked for in place of what the lines name; empty: theirs
  int32_t concurrency = 0;  // sequences under way; 0: slots and an eighth more
  int32_t attempts = 5;     // of a line that the daemon began and did not finish
  std::chrono::milliseconds line_timeout{0};  // 0: none
  // The run is given up when the daemon has taken nothing for so long.
  std::chrono::seconds daemon_wait{300};
  bool interactive = false;  // at the priority of interactive requests instead of batch work's
  bool quiet = false;
};

// What the daemon at the other end is.
struct BatchDaemon {
  std::string model;
  std::string model_digest;
  std::string version;
  bool has_tokenizer = false;
  bool chat = false;  // it renders chats
  int32_t slots = 0;
  int32_t max_queue = 0;
};

// Asks the daemon; waits for it up to options.daemon_wait. NOT_FOUND when it serves another model.
absl::StatusOr<BatchDaemon> FindBatchDaemon(const std::shared_ptr<grpc::Channel>& channel,
                                            const std::string& model,
                                            const BatchRunOptions& options);

// Computes every entry that the journal lacks. OK when the journal has all, each with a result or
// with its error. Else why the run was given up: the daemon is gone (UNAVAILABLE), refuses
// everybody (UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND), the journal cannot be written, or the
// input has changed; another run goes on from there.
absl::Status RunBatch(const std::shared_ptr<grpc::Channel>& channel, const BatchDaemon& daemon,
                      const BatchPlan& plan, const BatchRunOptions& options, BatchJournal& journal);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_RUN_H_
