// Flags that more than one command reads.
#ifndef BASED_CLIENT_COMMON_FLAGS_H_
#define BASED_CLIENT_COMMON_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"

ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(double, timeout);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(std::string, tenant);
ABSL_DECLARE_FLAG(std::string, text);
ABSL_DECLARE_FLAG(std::string, file);
ABSL_DECLARE_FLAG(std::string, tokenizer);
ABSL_DECLARE_FLAG(std::string, backend);
ABSL_DECLARE_FLAG(int32_t, threads);
ABSL_DECLARE_FLAG(int32_t, device);

namespace based {

// --threads; INVALID_ARGUMENT (UsageError) for a number below 0.
absl::StatusOr<int32_t> ThreadsFromFlags();

}  // namespace based

#endif  // BASED_CLIENT_COMMON_FLAGS_H_
