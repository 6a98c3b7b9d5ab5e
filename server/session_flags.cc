#include "server/session_flags.h"

#include <chrono>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "server/flags.h"

ABSL_FLAG(std::string, session_memory, "512MiB",
          "Host memory for the states of sessions, at most; taken as they come. The least recently "
          "used make room for new ones. 0: no sessions.");
ABSL_FLAG(int32_t, session_idle_s, 3600,
          "A session that has not been used for so long is dropped; 0: none is.");
ABSL_FLAG(int32_t, max_sessions_per_tenant, 0,
          "Sessions that one tenant keeps, at most; 0: no limit but --session_memory.");

namespace based {
namespace {

absl::Status CheckCount(absl::string_view flag, int32_t value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected 0 or more"));
}

}  // namespace

absl::Status ReadSessionFlags(EngineOptions& options) {
  const std::string memory = absl::GetFlag(FLAGS_session_memory);
  const absl::StatusOr<int64_t> bytes = ParseBytes(memory);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--session_memory is '", memory, "'; expected bytes, e.g. 0, 512MiB or 2GiB"));
  }
  options.session_memory = *bytes;
  const int32_t idle = absl::GetFlag(FLAGS_session_idle_s);
  if (absl::Status status = CheckCount("session_idle_s", idle); !status.ok()) return status;
  options.session_idle_limit =
      idle == 0 ? Clock::duration::max() : Clock::duration(std::chrono::seconds(idle));
  options.max_sessions_per_tenant = absl::GetFlag(FLAGS_max_sessions_per_tenant);
  return CheckCount("max_sessions_per_tenant", options.max_sessions_per_tenant);
}

FlagGroup SessionFlags() {
  return {"Sessions", {"session_memory", "session_idle_s", "max_sessions_per_tenant"}};
}

}  // namespace based
