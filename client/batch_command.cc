#include "client/batch_command.h"

#include <cstdio>
#include <optional>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/batch_input.h"
#include "client/batch_run.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "engine/batch_result.h"
#include "engine/json_file.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, shard, "0/1",
          "i/n: works on part i of n (from 0), consecutive lines of the input; the outputs of all "
          "parts, one after the other, are the output of the whole.");
ABSL_FLAG(int32_t, concurrency, 0,
          "batch: completions under way at once; 0: the daemon's slots and an eighth more. "
          "bench: streams of the closed loop; 0: 32.");
ABSL_FLAG(int32_t, attempts, 5,
          "Tries of a line that the daemon began and did not finish, until its error is recorded.");
ABSL_FLAG(int32_t, daemon_wait, 300,
          "Seconds that the daemon may be gone or refuse everything before the command gives up.");
ABSL_FLAG(bool, interactive, false,
          "At the priority of interactive requests; without it they go first.");
ABSL_FLAG(
    bool, quiet, false,
    "No progress on standard error, nor the names of fields of the input that mean nothing and "
    "are ignored.");

namespace based {
namespace {

void Say(const std::string& message) {
  if (!absl::GetFlag(FLAGS_quiet)) std::fprintf(stderr, "based: %s\n", message.c_str());
}

absl::StatusOr<BatchRunOptions> OptionsFromFlags() {
  BatchRunOptions options{.model = absl::GetFlag(FLAGS_model),
                          .concurrency = absl::GetFlag(FLAGS_concurrency),
                          .attempts = absl::GetFlag(FLAGS_attempts),
                          .line_timeout = std::chrono::milliseconds(
                              static_cast<int64_t>(absl::GetFlag(FLAGS_timeout) * 1000)),
                          .daemon_wait = std::chrono::seconds(absl::GetFlag(FLAGS_daemon_wait)),
                          .interactive = absl::GetFlag(FLAGS_interactive),
                          .quiet = absl::GetFlag(FLAGS_quiet)};
  if (options.concurrency < 0 || options.attempts < 1 || options.daemon_wait.count() < 1) {
    return UsageError("--concurrency, --attempts or --daemon_wait is below its least (0, 1, 1)");
  }
  return options;
}

void TellIgnored(const IgnoredFields& ignored) {
  for (const auto& [name, lines] : ignored) {
    Say(absl::StrCat(JsonExcerpt(name), " means nothing in a batch and is ignored, on ", lines,
                     lines == 1 ? " line" : " lines"));
  }
}

// The results lie beside the output until all are there; then it is put in its place.
absl::Status CheckOutput(const std::string& output) {
  BASED_ASSIGN_OR_RETURN(const bool takes_place, IsRegularOrNew(output));
  if (takes_place) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(output,
                   " is no regular file; expected a name for the output, which is put in "
                   "its place once the batch is complete"));
}

absl::Status Batch(const CommandLine& line) {
  if (line.positional.size() != 2) {
    return UsageError("expected two files: based batch INPUT.jsonl OUTPUT.jsonl");
  }
  const std::string& input = line.positional[0];
  const std::string& output = line.positional[1];
  BASED_ASSIGN_OR_RETURN(const Shard shard, ParseShard(absl::GetFlag(FLAGS_shard)));
  BASED_ASSIGN_OR_RETURN(const BatchRunOptions options, OptionsFromFlags());
  BASED_RETURN_IF_ERROR(CheckOutput(output));
  BatchInputNotes notes;
  BASED_ASSIGN_OR_RETURN(const BatchPlan plan, ReadBatchInput(input, shard, &notes));
  TellIgnored(notes.ignored);
  const auto lines = static_cast<int64_t>(plan.entries().size());
  if (FileExists(output) && !FileExists(output + ".partial")) {
    BASED_ASSIGN_OR_RETURN(const std::optional<int64_t> failed, FailuresInOutput(output, plan));
    if (!failed) {
      return absl::AlreadyExistsError(
          absl::StrCat(output, " is not the output of ", input, "; move it away or name another"));
    }
    Say(absl::StrCat(output, " is complete, ", lines, " lines"));
    return CheckSomeSucceeded(*failed, lines, output);
  }
  const auto channel = DaemonChannel();
  BASED_ASSIGN_OR_RETURN(const BatchDaemon daemon, FindBatchDaemon(channel, plan.model(), options));
  if (!notes.first_chat.empty() && !daemon.chat) {
    return absl::UnimplementedError(
        absl::StrCat(notes.first_chat, ": the daemon is of version ", daemon.version,
                     ", which does not take chats from `based batch`; expected a newer one"));
  }
  BASED_ASSIGN_OR_RETURN(
      const std::unique_ptr<BatchJournal> journal,
      BatchJournal::Open(output,
                         {.input = plan.digest(), .model = daemon.model_digest, .lines = lines}));
  if (journal->cut_bytes() > 0) {
    Say(absl::StrCat("cut ", journal->cut_bytes(), " bytes of a torn record off the checkpoint"));
  }
  if (journal->finished() > 0) {
    Say(absl::StrCat("going on after ", journal->finished(), " lines of an earlier run"));
  }
  const absl::Status status = RunBatch(channel, daemon, plan, options, *journal);
  if (!status.ok()) {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), "\nbased: ", output, ".partial holds ", journal->finished(),
                     " of ", lines, " lines; the same command goes on from there"));
  }
  BASED_RETURN_IF_ERROR(journal->Finish());
  const int64_t failed = journal->failed();
  BASED_RETURN_IF_ERROR(CheckSomeSucceeded(failed, lines, output));
  if (failed > 0) {
    Say(absl::StrCat(failed, " of ", lines, " lines have an error in place of a result"));
  }
  return absl::OkStatus();
}

}  // namespace

Command BatchCommand() {
  return {.name = "batch",
          .summary = "Runs a file of requests (OpenAI's batch lines) through the daemon.",
          .examples =
              "  based batch prompts.jsonl results.jsonl\n"
              "  based batch in.jsonl out-2.jsonl --shard 2/8 --address gpu-2:7433\n",
          .exit_status =
              "0 when OUTPUT is there and holds a result: lines that failed have their errors in "
              "it.\n1 when every line has failed, and when OUTPUT is not there: the same command "
              "goes on.",
          .flags = {{"Batch",
                     {"shard", "concurrency", "attempts", "daemon_wait", "model", "interactive",
                      "quiet"}},
                    kDaemonFlags},
          .run = Batch};
}

}  // namespace based
