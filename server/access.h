// Who may call, as which tenant, for what: API keys against the access file. For every way in: gRPC
// hands over the metadata `authorization`, HTTP the header of that name. Thread-safe.
//
// Keys are kept as SHA-256 hashes and compared in constant time. Whoever sends no key, an unknown
// or an expired one gets the same answer after the same work; the log says which it was.
#ifndef BASED_SERVER_ACCESS_H_
#define BASED_SERVER_ACCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/base/mutex.h"
#include "server/access_file.h"

namespace based {

// The metadata, or HTTP header, that names the tenant of a call without a key.
inline constexpr char kTenantMetadata[] = "x-tenant";

// Who asks, once that is known. Without keys in force everybody is the tenant that the call's
// metadata names, else the default one.
struct Caller {
  std::string tenant;
  uint8_t permissions = kAllPermissions;
  bool has_key = false;

  bool Has(Permission permission) const {
    return (permissions & static_cast<uint8_t>(permission)) != 0;
  }
};

class AccessControl {
 public:
  // Nobody is asked for a key.
  AccessControl() : file_(std::make_shared<AccessFile>()) {}

  // Of the access file at `path`; empty: none. The file's errors.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Load(const std::string& path);

  // Reads the file again, all of it or nothing: after an error what was in force stays.
  // FAILED_PRECONDITION when the file asks for keys no more.
  absl::Status Reload();

  // `authorization` is the whole value, "Bearer KEY"; empty when the call has none. UNAUTHENTICATED
  // with one message for all reasons; DenialReason tells them apart.
  absl::StatusOr<Caller> Authenticate(absl::string_view authorization) const;

  // Replaces one tenant's limits until the file is read again. NOT_FOUND unless the file names the
  // tenant or it is the default one, INVALID_ARGUMENT for a limit that the file could not hold.
  absl::Status SetLimits(const TenantLimits& limits);

  bool keys_required() const { return file()->keys_required; }
  std::vector<TenantLimits> tenants() const { return file()->tenants; }

 private:
  std::shared_ptr<const AccessFile> file() const;

  std::string path_;  // constant after Load
  mutable Mutex mutex_;
  std::shared_ptr<const AccessFile> file_ ABSL_GUARDED_BY(mutex_);
};

// What is known of a call before it is let in; for the log.
struct Attempt {
  absl::string_view authorization;
  absl::string_view tenant;  // of kTenantMetadata; empty: none is named
  absl::string_view peer;
  absl::string_view request_id;
};

// Authenticates and checks the permission; PERMISSION_DENIED when the key does not have it, or is
// another tenant's than the one named. Denials are logged as the event "access_denied" with their
// reason.
absl::StatusOr<Caller> Authorize(const AccessControl& access, Permission needed,
                                 const Attempt& attempt);
// The second half of it, of a caller who is known.
absl::Status CheckPermission(const Caller& caller, Permission needed, const Attempt& attempt);
// As Authorize where any key will do.
absl::StatusOr<Caller> Authorize(const AccessControl& access, const Attempt& attempt);

// Sets a request's `tenant` to the caller's. PERMISSION_DENIED when it names another one and the
// caller has a key; without keys in force a request may name any, but INVALID_ARGUMENT when its
// metadata names another.
absl::Status ApplyTenant(const Caller& caller, std::string& tenant);

// "missing", "malformed", "unknown" or "expired" for what Authenticate refused; else "".
std::string DenialReason(const absl::Status& status);

}  // namespace based

#endif  // BASED_SERVER_ACCESS_H_
