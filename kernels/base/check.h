// CHECK: ends the process with a message when one of our own invariants is broken.
// For bugs only; whatever a client, a file or a flag can cause is an absl::Status.
#ifndef BASED_KERNELS_BASE_CHECK_H_
#define BASED_KERNELS_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace based::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace based::internal

#define BASED_CHECK(condition)                                               \
  do {                                                                       \
    if (!(condition)) [[unlikely]]                                           \
      ::based::internal::CheckFailed(__FILE__, __LINE__, #condition);        \
  } while (false)

#endif  // BASED_KERNELS_BASE_CHECK_H_
