#include "server/host_check.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace based {
namespace {

// HOST of HOST[:PORT], without the [..] of IPv6.
absl::string_view WithoutPort(absl::string_view header) {
  if (absl::ConsumePrefix(&header, "[")) return header.substr(0, header.find(']'));
  return header.substr(0, header.find(':'));
}

}  // namespace

bool NamesLoopback(absl::string_view header, absl::string_view bound) {
  const std::string host(WithoutPort(header));
  if (absl::EqualsIgnoreCase(host, "localhost") || absl::EqualsIgnoreCase(host, bound)) return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace based
