#include "server/access.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "server/log.h"

namespace based {
namespace {

constexpr char kReasonPayload[] = "based.denial";
constexpr absl::string_view kScheme = "Bearer ";

absl::Status Unauthenticated(absl::string_view reason) {
  absl::Status status = absl::UnauthenticatedError(
      "no valid API key; expected the metadata 'authorization: Bearer KEY'");
  status.SetPayload(kReasonPayload, absl::Cord(reason));
  return status;
}

// Every key is looked at, whichever matches.
const AccessKey* Find(const std::vector<AccessKey>& keys, const KeyDigest& digest) {
  const AccessKey* found = nullptr;
  for (const AccessKey& key : keys) {
    const bool equal = CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0;
    found = equal ? &key : found;
  }
  return found;
}

absl::Status OtherTenant() {
  return absl::PermissionDeniedError("tenant is not that of the API key; expected it, or nothing");
}

void LogDenial(const Attempt& attempt, absl::string_view reason) {
  Log(LogLevel::kWarning, "access_denied",
      {{"request_id", attempt.request_id}, {"peer", attempt.peer}, {"reason", reason}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Load(const std::string& path) {
  auto access = std::make_unique<AccessControl>();
  access->path_ = path;
  BASED_RETURN_IF_ERROR(access->Reload());
  return access;
}

absl::Status AccessControl::Reload() {
  if (path_.empty()) return absl::OkStatus();
  BASED_ASSIGN_OR_RETURN(AccessFile read, ReadAccessFile(path_));
  auto fresh = std::make_shared<const AccessFile>(std::move(read));
  MutexLock lock(mutex_);
  // Addresses were opened, and clients let in, because keys are asked for.
  if (file_->keys_required && !fresh->keys_required) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_,
                     ": keys is missing, expected one key or more: a daemon that asks for "
                     "keys goes on to ask for them until it is started anew"));
  }
  file_ = std::move(fresh);
  return absl::OkStatus();
}

absl::Status AccessControl::SetLimits(const TenantLimits& limits) {
  BASED_RETURN_IF_ERROR(CheckLimits(limits));
  MutexLock lock(mutex_);
  auto fresh = std::make_shared<AccessFile>(*file_);
  const auto tenant =
      std::find_if(fresh->tenants.begin(), fresh->tenants.end(),
                   [&](const TenantLimits& other) { return other.name == limits.name; });
  if (tenant != fresh->tenants.end()) {
    *tenant = limits;
  } else if (limits.name.empty()) {
    fresh->tenants.push_back(limits);
  } else {
    return absl::NotFoundError("limits.name is no tenant of the access file");
  }
  file_ = std::move(fresh);
  return absl::OkStatus();
}

std::shared_ptr<const AccessFile> AccessControl::file() const {
  MutexLock lock(mutex_);
  return file_;
}

absl::StatusOr<Caller> AccessControl::Authenticate(absl::string_view authorization) const {
  const std::shared_ptr<const AccessFile> current = file();
  if (!current->keys_required) return Caller{};
  const bool bearer = absl::StartsWithIgnoreCase(authorization, kScheme);
  absl::string_view presented = authorization;
  if (bearer) presented.remove_prefix(kScheme.size());
  // Done for a missing key too: the answer takes as long.
  const AccessKey* key = Find(current->keys, DigestOf(presented));
  if (authorization.empty()) return Unauthenticated("missing");
  if (!bearer) return Unauthenticated("malformed");
  if (key == nullptr) return Unauthenticated("unknown");
  if (key->expires <= absl::Now()) {
    return Unauthenticated(absl::StrCat("expired", key->comment.empty() ? "" : ": ", key->comment));
  }
  return Caller{.tenant = key->tenant, .permissions = key->permissions, .has_key = true};
}

absl::StatusOr<Caller> Authorize(const AccessControl& access, const Attempt& attempt) {
  absl::StatusOr<Caller> caller = access.Authenticate(attempt.authorization);
  if (!caller.ok()) {
    LogDenial(attempt, DenialReason(caller.status()));
    return caller;
  }
  if (attempt.tenant.empty() || attempt.tenant == caller->tenant) return caller;
  if (caller->has_key) {
    LogDenial(attempt, "tenant");
    return OtherTenant();
  }
  caller->tenant = std::string(attempt.tenant);
  return caller;
}

absl::StatusOr<Caller> Authorize(const AccessControl& access, Permission needed,
                                 const Attempt& attempt) {
  BASED_ASSIGN_OR_RETURN(Caller caller, Authorize(access, attempt));
  BASED_RETURN_IF_ERROR(CheckPermission(caller, needed, attempt));
  return caller;
}

absl::Status CheckPermission(const Caller& caller, Permission needed, const Attempt& attempt) {
  if (caller.Has(needed)) return absl::OkStatus();
  const std::string reason = absl::StrCat("permission ", PermissionName(needed));
  LogDenial(attempt, reason);
  return absl::PermissionDeniedError(
      absl::StrCat("the API key does not have the permission '", PermissionName(needed), "'"));
}

absl::Status ApplyTenant(const Caller& caller, std::string& tenant) {
  if (tenant.empty()) tenant = caller.tenant;
  if (tenant == caller.tenant) return absl::OkStatus();
  if (caller.has_key) return OtherTenant();
  if (caller.tenant.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tenant is not that of the metadata ",
                                                 kTenantMetadata, "; expected it, or nothing"));
}

std::string DenialReason(const absl::Status& status) {
  const auto reason = status.GetPayload(kReasonPayload);
  return reason.has_value() ? std::string(*reason) : "";
}

}  // namespace based
