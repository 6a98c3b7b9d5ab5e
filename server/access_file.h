// The access file: tenants with their limits, and hashes of the API keys that may call.
//
//   {"tenants": [{"name": "acme", "weight": 2, "requests_per_second": 10,
//                 "tokens_per_second": 50000, "max_concurrent": 64}],
//    "keys": [{"sha256": "<64 hex digits>", "tenant": "acme", "permissions": ["generate"],
//              "expires": "2027-01-01T00:00:00Z", "comment": "batch jobs"}]}
//
// Limits that are left out are none; a key without `tenant` is the default tenant's, one without
// `expires` lasts. Without `keys` nobody is asked for one. Unknown fields are refused.
#ifndef BASED_SERVER_ACCESS_FILE_H_
#define BASED_SERVER_ACCESS_FILE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/tenant.h"

namespace based {

enum class Permission : uint8_t {
  kGenerate = 1,  // "generate": completions and scores
  kSessions = 2,  // "sessions": states that outlive a call
  kAdmin = 4,     // "admin": AdminService
  kBatches = 8,   // "batches": jobs that outlive a call
};
inline constexpr uint8_t kAllPermissions = 15;

using KeyDigest = std::array<uint8_t, 32>;  // SHA-256

struct AccessKey {
  KeyDigest digest{};
  std::string tenant;
  uint8_t permissions = 0;  // of Permission
  absl::Time expires = absl::InfiniteFuture();
  std::string comment;  // for logs
};

struct AccessFile {
  std::vector<TenantLimits> tenants;
  bool keys_required = false;
  std::vector<AccessKey> keys;
};

// INVALID_ARGUMENT or NOT_FOUND with path, place and reason. A file that everybody may write is
// refused.
absl::StatusOr<AccessFile> ReadAccessFile(const std::string& path);

// The same of text; `path` is for messages.
absl::StatusOr<AccessFile> ParseAccessFile(absl::string_view text, const std::string& path);

// INVALID_ARGUMENT when a limit is out of the range that the file may give.
absl::Status CheckLimits(const TenantLimits& limits);

// "generate", "sessions", "admin" or "batches".
absl::string_view PermissionName(Permission permission);

KeyDigest DigestOf(absl::string_view key);

}  // namespace based

#endif  // BASED_SERVER_ACCESS_FILE_H_
