#include "server/network_flags.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

ABSL_FLAG(
    std::string, access_file, "",
    "JSON of tenants, their limits and hashes of API keys (see `based keygen`); read again on "
    "SIGHUP. Empty: no keys are asked for.");
ABSL_FLAG(std::string, tls_cert, "", "PEM file of the certificate and its chain; means TLS.");
ABSL_FLAG(std::string, tls_key, "", "PEM file of the private key of --tls_cert.");
ABSL_FLAG(std::string, tls_client_ca, "",
          "PEM file of authorities: clients must show a certificate of theirs. All three files are "
          "read again when they change.");
ABSL_FLAG(
    bool, insecure_listen, false,
    "Allows addresses beyond loopback without TLS and keys. For networks where something else "
    "does both.");
ABSL_FLAG(std::string, admin_listen, "",
          "HOST:PORT of AdminService (status, reload, limits, drain, profile) and channelz; empty: "
          "none.");
ABSL_FLAG(int32_t, max_message_bytes, 16 << 20, "Largest message that a client may send.");
ABSL_FLAG(int32_t, max_header_bytes, 16 << 10, "Most bytes of a call's metadata.");
ABSL_FLAG(int32_t, max_streams_per_connection, 16384, "Calls at a time on one connection.");
ABSL_FLAG(int32_t, keepalive_time_ms, 60000, "A connection silent for so long is pinged.");
ABSL_FLAG(int32_t, keepalive_timeout_ms, 20000, "And closed if it does not answer for so long.");
ABSL_FLAG(
    int32_t, max_connection_age_s, 0,
    "Connections this old are asked to close (GOAWAY), so that balancers spread clients anew. "
    "0: never.");
ABSL_FLAG(int32_t, max_connection_age_grace_s, 300,
          "Time for calls on such a connection to end before they are cut.");
ABSL_FLAG(
    int32_t, drain_grace_ms, 0,
    "On SIGTERM, time in which health says NOT_SERVING while requests are still taken, so that "
    "balancers notice.");

namespace based {
namespace {

absl::Status CheckRange(absl::string_view flag, int32_t value, int32_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected ", least, " or more"));
}

absl::Status ReadConnections(EndpointOptions& connections) {
  connections.max_message_bytes = absl::GetFlag(FLAGS_max_message_bytes);
  connections.max_header_bytes = absl::GetFlag(FLAGS_max_header_bytes);
  connections.max_streams_per_connection = absl::GetFlag(FLAGS_max_streams_per_connection);
  const int32_t time = absl::GetFlag(FLAGS_keepalive_time_ms);
  const int32_t timeout = absl::GetFlag(FLAGS_keepalive_timeout_ms);
  const int32_t age = absl::GetFlag(FLAGS_max_connection_age_s);
  const int32_t grace = absl::GetFlag(FLAGS_max_connection_age_grace_s);
  BASED_RETURN_IF_ERROR(CheckRange("max_message_bytes", connections.max_message_bytes, 1024));
  BASED_RETURN_IF_ERROR(CheckRange("max_header_bytes", connections.max_header_bytes, 1024));
  BASED_RETURN_IF_ERROR(
      CheckRange("max_streams_per_connection", connections.max_streams_per_connection, 1));
  BASED_RETURN_IF_ERROR(CheckRange("keepalive_time_ms", time, 1000));
  BASED_RETURN_IF_ERROR(CheckRange("keepalive_timeout_ms", timeout, 1));
  BASED_RETURN_IF_ERROR(CheckRange("max_connection_age_s", age, 0));
  BASED_RETURN_IF_ERROR(CheckRange("max_connection_age_grace_s", grace, 0));
  connections.keepalive_time = std::chrono::milliseconds(time);
  connections.keepalive_timeout = std::chrono::milliseconds(timeout);
  connections.max_connection_age = std::chrono::seconds(age);
  connections.max_connection_age_grace = std::chrono::seconds(grace);
  return absl::OkStatus();
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return address.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

}  // namespace

absl::Status CheckAddress(absl::string_view flag, const std::string& address) {
  const size_t colon = address.rfind(':');
  int32_t port = -1;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is '", address,
                     "'; expected HOST:PORT with a port in [0, 65535], e.g. 127.0.0.1:7433"));
  }
  return absl::OkStatus();
}

bool IsLoopback(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), "0", &hints, &found) != 0) return false;
  const auto release = absl::MakeCleanup([&] { ::freeaddrinfo(found); });
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    if (!IsLoopback(*info->ai_addr)) return false;
  }
  return true;
}

bool IsOpen(const std::string& address, const NetworkOptions& network, bool keys) {
  const bool guarded = keys || !network.tls.client_ca.empty();
  return !(network.tls.enabled() && guarded) && !IsLoopback(address);
}

absl::Status CheckListenPolicy(const std::string& flag, const std::string& address,
                               const NetworkOptions& network, bool keys) {
  if (network.insecure_listen || !IsOpen(address, network, keys)) return absl::OkStatus();
  const char* missing = network.tls.enabled() ? "without API keys or client certificates"
                        : keys                ? "without TLS"
                                              : "without TLS and API keys";
  return absl::FailedPreconditionError(absl::StrCat(
      "--", flag, " is '", address, "', which others can reach, ", missing,
      "; give --tls_cert and --tls_key with --access_file (or --tls_client_ca), listen on "
      "127.0.0.1, or say --insecure_listen if the network itself keeps strangers out"));
}

absl::Status ReadNetworkFlags(NetworkOptions& network, EndpointOptions& connections) {
  network.access_file = absl::GetFlag(FLAGS_access_file);
  network.tls = {.cert = absl::GetFlag(FLAGS_tls_cert),
                 .key = absl::GetFlag(FLAGS_tls_key),
                 .client_ca = absl::GetFlag(FLAGS_tls_client_ca)};
  if (network.tls.cert.empty() != network.tls.key.empty()) {
    return absl::InvalidArgumentError(
        "--tls_cert and --tls_key belong together; expected both or neither");
  }
  if (!network.tls.client_ca.empty() && !network.tls.enabled()) {
    return absl::InvalidArgumentError("--tls_client_ca needs --tls_cert and --tls_key");
  }
  network.insecure_listen = absl::GetFlag(FLAGS_insecure_listen);
  network.admin_listen = absl::GetFlag(FLAGS_admin_listen);
  if (!network.admin_listen.empty()) {
    BASED_RETURN_IF_ERROR(CheckAddress("admin_listen", network.admin_listen));
  }
  const int32_t grace = absl::GetFlag(FLAGS_drain_grace_ms);
  BASED_RETURN_IF_ERROR(CheckRange("drain_grace_ms", grace, 0));
  network.drain_grace = std::chrono::milliseconds(grace);
  return ReadConnections(connections);
}

FlagGroup SecurityFlags() {
  return {
      "Access",
      {"access_file", "tls_cert", "tls_key", "tls_client_ca", "insecure_listen", "admin_listen"}};
}

FlagGroup ConnectionFlags() {
  return {"Connections",
          {"max_message_bytes", "max_header_bytes", "max_streams_per_connection",
           "keepalive_time_ms", "keepalive_timeout_ms", "max_connection_age_s",
           "max_connection_age_grace_s", "drain_grace_ms"}};
}

}  // namespace based
