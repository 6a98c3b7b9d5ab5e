// Pages of the List methods.
#ifndef BASED_SERVER_PAGE_H_
#define BASED_SERVER_PAGE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/session_store.h"
#include "kernels/base/status.h"

namespace based {

// Entries of the page that `request` asks for with page_size and page_token. INVALID_ARGUMENT names
// the one that is wrong.
template <typename Request>
absl::StatusOr<int32_t> PageSizeOf(const Request& request) {
  constexpr int32_t kMostPerPage = 1000;
  const int32_t size = request.page_size() == 0 ? kMostPerPage : request.page_size();
  if (size < 1 || size > kMostPerPage) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size is ", size, "; expected 1 to ", kMostPerPage));
  }
  if (!request.page_token().empty()) {
    BASED_RETURN_IF_ERROR(CheckSessionId("page_token", request.page_token()));
  }
  return size;
}

}  // namespace based

#endif  // BASED_SERVER_PAGE_H_
