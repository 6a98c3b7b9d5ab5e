// The two macros that carry an absl::Status upwards; Debian's Abseil ships none.
#ifndef BASED_KERNELS_BASE_STATUS_H_
#define BASED_KERNELS_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expression` (an absl::Status) is not OK.
#define BASED_RETURN_IF_ERROR(expression)                            \
  do {                                                               \
    if (absl::Status based_status_ = (expression); !based_status_.ok()) \
      return based_status_;                                          \
  } while (false)

// Declares or assigns `lhs` from an absl::StatusOr, or returns its error.
//   BASED_ASSIGN_OR_RETURN(auto file, OpenFile(path));
#define BASED_ASSIGN_OR_RETURN(lhs, expression) \
  BASED_ASSIGN_OR_RETURN_IMPL_(BASED_CONCAT_(based_statusor_, __LINE__), lhs, expression)

#define BASED_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expression) \
  auto statusor = (expression);                                 \
  if (!statusor.ok()) return std::move(statusor).status();      \
  lhs = *std::move(statusor)

#define BASED_CONCAT_(a, b) BASED_CONCAT_INNER_(a, b)
#define BASED_CONCAT_INNER_(a, b) a##b

#endif  // BASED_KERNELS_BASE_STATUS_H_
