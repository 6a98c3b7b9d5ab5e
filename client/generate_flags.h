// The flags of `based generate`, named as the proto's fields.
#ifndef BASED_CLIENT_GENERATE_FLAGS_H_
#define BASED_CLIENT_GENERATE_FLAGS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "client/command.h"
#include "client/generate_options.h"

namespace based {

// Groups of the flags that become GenerateOptions.
std::vector<FlagGroup> GenerateFlagGroups();

// What the command line asks for; standard input is read where no prompt is given. A usage error
// names the flag that contradicts another or cannot be read.
absl::StatusOr<GenerateOptions> GenerateOptionsFromFlags(const CommandLine& line);

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_FLAGS_H_
