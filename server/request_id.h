// Names of requests, for logs and answers.
#ifndef BASED_SERVER_REQUEST_ID_H_
#define BASED_SERVER_REQUEST_ID_H_

#include <string>

#include "absl/strings/string_view.h"

namespace based {

// `proposed` when it is fit for logs and headers (1 to 128 printable ASCII characters), else a new
// one.
std::string RequestIdFrom(absl::string_view proposed);

}  // namespace based

#endif  // BASED_SERVER_REQUEST_ID_H_
