#include "client/jobs_command.h"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/batch_progress.h"
#include "client/common_flags.h"
#include "client/jobs_remote.h"
#include "client/remote.h"
#include "engine/batch_result.h"
#include "engine/json_file.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, id, "", "submit: the job's name; empty: one is made.");
ABSL_FLAG(bool, partial, false, "fetch: what there is by now, without waiting for the job's end.");
ABSL_DECLARE_FLAG(int32_t, daemon_wait);
ABSL_DECLARE_FLAG(bool, quiet);

namespace based {
namespace {

constexpr std::chrono::milliseconds kPoll{500};

bool HasEnded(const v1::Batch& batch) { return batch.ended_ms() != 0; }

std::string StateName(const v1::Batch& batch) {
  const std::string name = v1::BatchState_Name(batch.state());
  return absl::AsciiStrToLower(name.substr(std::string("BATCH_STATE_").size()));
}

void Print(const v1::Batch& batch) {
  if (absl::GetFlag(FLAGS_json)) {
    std::printf("%s\n", ToJson(batch).c_str());
    return;
  }
  absl::PrintF("%-32s %-9s %d/%d lines", batch.id(), StateName(batch), batch.finished(),
               batch.lines());
  if (batch.failed() > 0) absl::PrintF("  failed %d", batch.failed());
  absl::PrintF("  %.1f MiB", static_cast<double>(batch.bytes()) / (1 << 20));
  if (!batch.message().empty()) absl::PrintF("  %s", batch.message());
  std::printf("\n");
}

void Say(const std::string& message) {
  if (!absl::GetFlag(FLAGS_quiet)) std::fprintf(stderr, "based: %s\n", message.c_str());
}

std::string NewId() {
  absl::BitGen random;
  return absl::StrCat("batch-", absl::FormatTime("%Y%m%dT%H%M%S", absl::Now(), absl::UTCTimeZone()),
                      "-", absl::Hex(absl::Uniform<uint32_t>(random), absl::kZeroPad8));
}

absl::Status Submit(JobsAtDaemon& jobs, const std::string& input) {
  const std::string id = absl::GetFlag(FLAGS_id).empty() ? NewId() : absl::GetFlag(FLAGS_id);
  BASED_ASSIGN_OR_RETURN(const v1::Batch batch, jobs.Submit(input, id));
  if (batch.ignored_fields_size() > 0) {
    Say(absl::StrCat(
        "fields that mean nothing here are ignored: ",
        absl::StrJoin(batch.ignored_fields(), ", ", [](std::string* out, const std::string& name) {
          absl::StrAppend(out, JsonExcerpt(name));
        })));
  }
  Print(batch);
  return absl::OkStatus();
}

// Shows the progress of a job until it has ended.
absl::StatusOr<v1::Batch> Watch(JobsAtDaemon& jobs, const std::string& id) {
  using Clock = std::chrono::steady_clock;
  BASED_ASSIGN_OR_RETURN(v1::Batch batch, jobs.Get(id));
  const Clock::time_point start = Clock::now();
  const v1::Batch first = batch;
  ProgressPrinter printer(absl::GetFlag(FLAGS_quiet));
  std::string message;
  while (true) {
    // Lines are as good a measure of the work as any from here.
    const BatchProgress progress = {
        .lines = batch.lines(),
        .finished = batch.finished(),
        .failed = batch.failed(),
        .in_flight = batch.in_flight(),
        .finished_now = batch.finished() - first.finished(),
        .tokens_now = batch.generated_tokens() - first.generated_tokens(),
        .work_now = static_cast<double>(batch.finished() - first.finished()),
        .work_left = static_cast<double>(batch.lines() - batch.finished()),
        .seconds = std::chrono::duration<double>(Clock::now() - start).count()};
    if (HasEnded(batch)) {
      printer.Finish(progress);
      return batch;
    }
    printer.Print(progress);
    if (batch.message() != message && !batch.message().empty()) Say(batch.message());
    message = batch.message();
    std::this_thread::sleep_for(kPoll);
    BASED_ASSIGN_OR_RETURN(batch, jobs.Get(id));
  }
}

absl::Status Fetch(JobsAtDaemon& jobs, const std::string& id, const std::string& output) {
  if (FileExists(output)) {
    return absl::AlreadyExistsError(absl::StrCat(output, " is there; name another file"));
  }
  v1::Batch batch;
  if (!absl::GetFlag(FLAGS_partial)) {
    BASED_ASSIGN_OR_RETURN(batch, Watch(jobs, id));
  }
  BASED_ASSIGN_OR_RETURN(const int64_t results, jobs.Fetch(id, output));
  Say(absl::StrCat(output, " holds ", results, " results"));
  BASED_RETURN_IF_ERROR(CheckSomeSucceeded(batch.failed(), batch.lines(), output));
  if (batch.failed() > 0) {
    Say(absl::StrCat(batch.failed(), " of ", batch.lines(),
                     " lines have an error in place of a result"));
  }
  return absl::OkStatus();
}

absl::Status Run(const CommandLine& line) {
  const std::vector<std::string>& words = line.positional;
  const std::string verb = words.empty() ? "" : words[0];
  const bool one =
      verb == "submit" || verb == "show" || verb == "watch" || verb == "cancel" || verb == "delete";
  const size_t wanted = verb == "list" ? 1 : one ? 2 : verb == "fetch" ? 3 : 0;
  if (words.size() != wanted || wanted == 0) {
    return UsageError(
        "expected: submit INPUT.jsonl, list, show ID, watch ID, fetch ID OUTPUT.jsonl, cancel ID "
        "or delete ID");
  }
  const int32_t wait = absl::GetFlag(FLAGS_daemon_wait);
  if (wait < 0) return UsageError(absl::StrCat("--daemon_wait is ", wait, "; expected 0 or more"));
  JobsAtDaemon jobs(
      {.tenant = absl::GetFlag(FLAGS_tenant), .daemon_wait = std::chrono::seconds(wait)});
  if (verb == "list") return jobs.List(Print);
  if (verb == "submit") return Submit(jobs, words[1]);
  if (verb == "delete") return jobs.Delete(words[1]);
  if (verb == "fetch") return Fetch(jobs, words[1], words[2]);
  const absl::StatusOr<v1::Batch> batch = verb == "show"    ? jobs.Get(words[1])
                                          : verb == "watch" ? Watch(jobs, words[1])
                                                            : jobs.Cancel(words[1]);
  if (batch.ok()) Print(*batch);
  return batch.status();
}

}  // namespace

Command JobsCommand() {
  return {.name = "jobs",
          .summary = "Batch jobs that the daemon runs by itself (--batch_dir) and keeps on disk.",
          .examples =
              "  based jobs submit prompts.jsonl --id nightly\n"
              "  based jobs fetch nightly results.jsonl     # waits for the end, shows progress\n"
              "  based jobs list\n",
          .exit_status =
              "fetch: 0 when OUTPUT holds a result: lines that failed have their errors in it; 1 "
              "when every line has failed.",
          .flags = {{"Jobs", {"id", "partial", "tenant", "daemon_wait", "json", "quiet"}},
                    kDaemonFlags},
          .run = Run};
}

}  // namespace based
