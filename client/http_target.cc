// URLs of HTTP servers.
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/command.h"
#include "client/http_client.h"

namespace based {

absl::StatusOr<HttpTarget> HttpTarget::Parse(absl::string_view flag, absl::string_view url) {
  const auto wrong = [&](absl::string_view why) {
    return UsageError(absl::StrCat("--", flag, " is '", url, "'; expected http://HOST:PORT", why));
  };
  if (absl::StartsWith(url, "https://")) {
    return wrong(": the daemon's HTTP API is in the clear, TLS is for what stands before it");
  }
  absl::string_view rest = url;
  if (!absl::ConsumePrefix(&rest, "http://")) return wrong("");
  absl::ConsumeSuffix(&rest, "/");
  HttpTarget target{.authority = std::string(rest)};
  absl::string_view port = "80";
  // The colons of an IPv6 address are in brackets.
  const size_t bracket = rest.find(']');
  const size_t colon = rest.find(':', bracket == absl::string_view::npos ? 0 : bracket);
  if (colon != absl::string_view::npos) port = rest.substr(colon + 1);
  absl::string_view host = rest.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) return wrong("");
  uint32_t number = 0;
  if (host.empty() || host.find_first_of("/?#@[] \r\n\t") != absl::string_view::npos ||
      !absl::SimpleAtoi(port, &number) || number < 1 || number > 65'535) {
    return wrong("");
  }
  target.host = std::string(host);
  target.port = absl::StrCat(number);
  return target;
}

}  // namespace based
