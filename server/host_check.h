// Against pages that a browser on this machine shows and whose name was made to resolve to it (DNS
// rebinding): they could read what is served here to everybody who asks. They cannot choose the
// Host that they ask with.
#ifndef BASED_SERVER_HOST_CHECK_H_
#define BASED_SERVER_HOST_CHECK_H_

#include "absl/strings/string_view.h"

namespace based {

// Whether a Host header, with or without a port, names the loopback interface (localhost,
// 127.0.0.0/8, [::1]) or is `bound`, the host that is listened on, without [..].
bool NamesLoopback(absl::string_view header, absl::string_view bound);

}  // namespace based

#endif  // BASED_SERVER_HOST_CHECK_H_
