#include "server/request_id.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_format.h"

namespace based {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;

std::string NewRequestId() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return absl::StrFormat("%016x%016x", generator(), generator());
}

}  // namespace

std::string RequestIdFrom(absl::string_view proposed) {
  const bool printable =
      std::all_of(proposed.begin(), proposed.end(), [](char c) { return c > ' ' && c < 127; });
  return printable && !proposed.empty() && proposed.size() <= kMaxRequestIdBytes
             ? std::string(proposed)
             : NewRequestId();
}

}  // namespace based
