// based keygen: a new API key, and its entry for the daemon's access file, which holds only a hash.
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "nlohmann/json.hpp"

ABSL_FLAG(std::string, permissions, "generate",
          "Any of generate, sessions, batches and admin, with commas.");
ABSL_FLAG(std::string, expires, "", "When the key ends, e.g. 2027-01-01T00:00:00Z; empty: never.");
ABSL_FLAG(std::string, comment, "", "Kept with the hash and shown in the daemon's log.");

namespace based {
namespace {

constexpr size_t kKeyBytes = 32;

absl::Status Keygen(const CommandLine&) {
  const std::vector<std::string> permissions =
      absl::StrSplit(absl::GetFlag(FLAGS_permissions), ',');
  for (const std::string& name : permissions) {
    if (name != "generate" && name != "sessions" && name != "batches" && name != "admin") {
      return UsageError(absl::StrCat("--permissions holds '", name,
                                     "'; expected generate, sessions, batches or admin"));
    }
  }
  absl::Time expires;
  if (std::string error;
      !absl::GetFlag(FLAGS_expires).empty() &&
      !absl::ParseTime(absl::RFC3339_full, absl::GetFlag(FLAGS_expires), &expires, &error)) {
    return UsageError(absl::StrCat("--expires is '", absl::GetFlag(FLAGS_expires),
                                   "'; expected a time such as 2027-01-01T00:00:00Z"));
  }
  std::array<uint8_t, kKeyBytes> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) {
    return absl::InternalError("the system gave no random bytes");
  }
  const std::string key =
      absl::StrCat("based_", absl::WebSafeBase64Escape(absl::string_view(
                                 reinterpret_cast<const char*>(random.data()), random.size())));
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), digest.data());
  nlohmann::ordered_json entry;
  entry["sha256"] = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
  entry["tenant"] = absl::GetFlag(FLAGS_tenant);
  entry["permissions"] = permissions;
  if (!absl::GetFlag(FLAGS_expires).empty()) entry["expires"] = absl::GetFlag(FLAGS_expires);
  if (!absl::GetFlag(FLAGS_comment).empty()) entry["comment"] = absl::GetFlag(FLAGS_comment);
  std::printf("%s\n%s\n", key.c_str(),
              entry.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).c_str());
  return absl::OkStatus();
}

}  // namespace

Command KeygenCommand() {
  return {.name = "keygen",
          .summary = "Prints a new API key, then its entry for the daemon's access file.",
          .examples = "  based keygen --tenant acme --permissions generate,sessions\n",
          .flags = {{"Key", {"tenant", "permissions", "expires", "comment"}}},
          .run = Keygen};
}

}  // namespace based
