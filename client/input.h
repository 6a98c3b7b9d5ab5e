// What the commands read from files and the command line.
#ifndef BASED_CLIENT_INPUT_H_
#define BASED_CLIENT_INPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace based {

// The whole file; "-" is standard input. NOT_FOUND with the path and the reason.
absl::StatusOr<std::string> ReadInput(const std::string& path);

// "1,2,3", spaces allowed. Usage error naming `flag` and the part that is no id.
absl::StatusOr<std::vector<int32_t>> ParseIds(absl::string_view flag, absl::string_view text);

}  // namespace based

#endif  // BASED_CLIENT_INPUT_H_
