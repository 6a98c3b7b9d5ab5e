// Command lines of the two binaries: parsing and help over flags declared with ABSL_FLAG.
//
// Own parsing on absl's reflection because absl::ParseCommandLine exits with 1 where a wrong
// command line must exit with 2, knows no flags per command, and cannot repeat a flag.
#ifndef BASED_KERNELS_BASE_COMMAND_LINE_H_
#define BASED_KERNELS_BASE_COMMAND_LINE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace based {

// Exit status of a wrong command line.
inline constexpr int kExitUsage = 2;

// Flags that belong together, under one heading of the help.
struct FlagGroup {
  absl::string_view title;
  std::vector<absl::string_view> flags;  // names as in ABSL_FLAG
};

struct CommandLine {
  std::vector<std::string> positional;
  std::vector<std::pair<std::string, std::string>> flags;  // name and text of each, as given
  bool help = false;                                       // --help was given

  bool Has(absl::string_view flag) const;
  // Every value of a flag that may be repeated.
  std::vector<std::string> All(absl::string_view flag) const;
};

// Parses `arguments` (without the program's name) into the absl flags of `groups`; others are
// unknown. Takes --name=value, --name value, --bool, --nobool, and -- before positional arguments.
// INVALID_ARGUMENT, in one line, for an unknown flag, a missing value or one of the wrong type.
absl::StatusOr<CommandLine> ParseCommandLine(absl::Span<const char* const> arguments,
                                             absl::Span<const FlagGroup> groups);

// The flags as text: heading, then one entry per flag with its help and default.
std::string FlagsHelp(absl::Span<const FlagGroup> groups);

}  // namespace based

#endif  // BASED_KERNELS_BASE_COMMAND_LINE_H_
