#include "server/batch_flags.h"

#include <chrono>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/flags.h"

ABSL_FLAG(std::string, batch_dir, "",
          "Folder for batch jobs, of this daemon alone; they go on after a restart. Empty: none.");
ABSL_FLAG(int32_t, batch_jobs, 1000, "Batch jobs that one tenant keeps, at most.");
ABSL_FLAG(int64_t, batch_lines, 1'000'000, "Lines of one batch job, at most.");
ABSL_FLAG(std::string, batch_input_bytes, "1GiB", "Input of one batch job, at most.");
ABSL_FLAG(std::string, batch_disk, "16GiB",
          "Disk for the inputs and results of all batch jobs; when it is used up they wait until "
          "some are deleted. What is being sent or merged comes on top.");
ABSL_FLAG(std::string, batch_tenant_disk, "0",
          "The same for the jobs of one tenant, so that others need not wait; 0: --batch_disk.");
ABSL_FLAG(int32_t, batch_keep_s, 7 * 24 * 3600,
          "A batch job is removed so long after its end; 0: when it is deleted.");

namespace based {
namespace {

absl::Status ReadBytes(absl::string_view flag, const std::string& text, int64_t& bytes) {
  const absl::StatusOr<int64_t> read = ParseBytes(text);
  if (!read.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is '", text, "'; expected bytes, e.g. 512MiB or 2GiB"));
  }
  bytes = *read;
  return absl::OkStatus();
}

absl::Status CheckAtLeast(absl::string_view flag, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected ", least, " or more"));
}

}  // namespace

absl::Status ReadBatchFlags(BatchOptions& options) {
  options.dir = absl::GetFlag(FLAGS_batch_dir);
  options.jobs_per_tenant = absl::GetFlag(FLAGS_batch_jobs);
  options.lines = absl::GetFlag(FLAGS_batch_lines);
  options.keep = std::chrono::seconds(absl::GetFlag(FLAGS_batch_keep_s));
  BASED_RETURN_IF_ERROR(CheckAtLeast("batch_jobs", options.jobs_per_tenant, 1));
  BASED_RETURN_IF_ERROR(CheckAtLeast("batch_lines", options.lines, 1));
  BASED_RETURN_IF_ERROR(CheckAtLeast("batch_keep_s", options.keep.count(), 0));
  BASED_RETURN_IF_ERROR(
      ReadBytes("batch_input_bytes", absl::GetFlag(FLAGS_batch_input_bytes), options.input_bytes));
  BASED_RETURN_IF_ERROR(ReadBytes("batch_disk", absl::GetFlag(FLAGS_batch_disk), options.disk));
  return ReadBytes("batch_tenant_disk", absl::GetFlag(FLAGS_batch_tenant_disk),
                   options.tenant_disk);
}

FlagGroup BatchFlags() {
  return {"Batch jobs",
          {"batch_dir", "batch_jobs", "batch_lines", "batch_input_bytes", "batch_disk",
           "batch_tenant_disk", "batch_keep_s"}};
}

}  // namespace based
