// HTTP/1.1 in the clear for many requests at once: each has a connection of its own, which the next
// one takes over where the server keeps it open.
#ifndef BASED_CLIENT_HTTP_CLIENT_H_
#define BASED_CLIENT_HTTP_CLIENT_H_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace based {

struct HttpTarget {
  std::string host, port;
  std::string authority;  // of the header "host"

  // "http://HOST[:PORT]", nothing behind it but a slash; IPv6 in brackets. A usage error naming
  // `flag` else, as for https.
  static absl::StatusOr<HttpTarget> Parse(absl::string_view flag, absl::string_view url);
};

// Hears of one request, on the client's thread.
class HttpListener {
 public:
  virtual ~HttpListener() = default;
  virtual void OnSent() {}
  virtual void OnHead(int status) = 0;
  virtual void OnBody(std::string_view piece) = 0;
  // Comes last. OK: the answer was complete. UNAVAILABLE: no connection, or it broke;
  // DEADLINE_EXCEEDED, CANCELLED.
  virtual void OnEnd(const absl::Status& status) = 0;
};

// Has a thread of its own. Thread-safe.
class HttpClient {
 public:
  // Looks the host up: UNAVAILABLE when it has no address.
  static absl::StatusOr<std::unique_ptr<HttpClient>> Open(const HttpTarget& target);
  virtual ~HttpClient() = default;

  // `request` is the whole of it, head and body. `listener` must live until its OnEnd, and hears
  // nothing within this call. A request that a kept connection took and did not answer at all, as
  // it does when the server closes it meanwhile, is sent once more on a new one.
  virtual void Send(std::string request, std::chrono::nanoseconds timeout,
                    HttpListener* listener) = 0;

  // Ends what is under way with CANCELLED.
  virtual void CancelAll() = 0;
};

}  // namespace based

#endif  // BASED_CLIENT_HTTP_CLIENT_H_
