// A subcommand of `based`.
#ifndef BASED_CLIENT_COMMAND_H_
#define BASED_CLIENT_COMMAND_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/command_line.h"

namespace based {

// INVALID_ARGUMENT with this payload is a wrong command line: exit status 2 instead of 1.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

struct Command {
  std::string name;
  std::string summary;           // one line
  std::string examples;          // one per line
  std::string exit_status = "";  // when it is 0, and when 1, beside what every command says
  std::vector<FlagGroup> flags;
  std::function<absl::Status(const CommandLine&)> run;
};

// Flags that several commands share are declared in common_flags.cc.
inline const FlagGroup kDaemonFlags = {
    "Daemon",
    {"address", "timeout", "tls", "tls_ca", "tls_cert", "tls_key", "api_key", "api_key_file"}};
inline const FlagGroup kEngineFlags = {"Engine in this process", {"backend", "threads", "device"}};

}  // namespace based

#endif  // BASED_CLIENT_COMMAND_H_
