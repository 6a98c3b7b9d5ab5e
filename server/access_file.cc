#include "server/access_file.h"

#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxFileBytes = 4 << 20;
constexpr int kDepth = 4;  // object, array, object, array of permissions
constexpr size_t kMaxKeys = 4096;
constexpr size_t kMaxTenants = 1024;
constexpr size_t kMaxNameBytes = 128;
constexpr double kLeastWeight = 1e-3, kLargestWeight = 1e6;
constexpr double kLargestRate = 1e12;

constexpr std::pair<absl::string_view, Permission> kPermissions[] = {
    {"generate", Permission::kGenerate},
    {"sessions", Permission::kSessions},
    {"admin", Permission::kAdmin},
    {"batches", Permission::kBatches}};

absl::Status CheckFields(const Json& object, const std::string& place,
                         std::initializer_list<absl::string_view> known) {
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, "unknown field ", JsonExcerpt(Json(name))));
    }
  }
  return absl::OkStatus();
}

// The objects of an array field; each with its place for messages ("keys[3].").
absl::StatusOr<std::vector<std::pair<const Json*, std::string>>> Items(const Json& root,
                                                                       const std::string& path,
                                                                       const char* field,
                                                                       size_t most) {
  std::vector<std::pair<const Json*, std::string>> items;
  const auto found = root.find(field);
  if (found == root.end()) return items;
  if (!found->is_array() || found->size() > most) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", field, " is ", JsonExcerpt(*found),
                                                   ", expected an array of at most ", most));
  }
  for (size_t i = 0; i < found->size(); ++i) {
    const std::string place = absl::StrCat(field, "[", i, "]");
    if (!(*found)[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": ", place, " is ", JsonExcerpt((*found)[i]), ", expected an object"));
    }
    items.emplace_back(&(*found)[i], place + ".");
  }
  return items;
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; });
}

absl::StatusOr<TenantLimits> ReadTenant(const Json& json, const std::string& path,
                                        const std::string& place) {
  BASED_RETURN_IF_ERROR(CheckFields(
      json, absl::StrCat(path, ": ", place),
      {"name", "weight", "requests_per_second", "tokens_per_second", "max_concurrent"}));
  JsonFields fields(json, path, place);
  TenantLimits tenant;
  tenant.name = fields.String("name");
  tenant.weight = fields.NumberOr("weight", kLeastWeight, kLargestWeight, 1);
  tenant.requests_per_second = fields.NumberOr("requests_per_second", 0, kLargestRate, 0);
  tenant.tokens_per_second = fields.NumberOr("tokens_per_second", 0, kLargestRate, 0);
  tenant.max_concurrent = fields.IntOr("max_concurrent", 0, std::numeric_limits<int32_t>::max(), 0);
  BASED_RETURN_IF_ERROR(fields.status());
  // The default tenant may be given limits too: it has the empty name.
  if (!tenant.name.empty() && !IsName(tenant.name)) {
    fields.Wrong("name", json["name"], "1 to 128 printable ASCII characters without spaces");
  }
  BASED_RETURN_IF_ERROR(fields.status());
  return tenant;
}

absl::StatusOr<uint8_t> ReadPermissions(JsonFields& fields) {
  const Json* value = fields.Find("permissions");
  const char* expected = "an array of \"generate\", \"sessions\", \"batches\", \"admin\"";
  uint8_t permissions = 0;
  if (value == nullptr) {
    fields.Missing("permissions", expected);
  } else if (!value->is_array() || value->empty()) {
    fields.Wrong("permissions", *value, expected);
  } else {
    for (const Json& item : *value) {
      const auto known = std::find_if(
          std::begin(kPermissions), std::end(kPermissions),
          [&](const auto& entry) { return item.is_string() && item == std::string(entry.first); });
      if (known == std::end(kPermissions)) {
        fields.Wrong("permissions", item, expected);
        break;
      }
      permissions = static_cast<uint8_t>(permissions | static_cast<uint8_t>(known->second));
    }
  }
  BASED_RETURN_IF_ERROR(fields.status());
  return permissions;
}

absl::StatusOr<AccessKey> ReadKey(const Json& json, const std::string& path,
                                  const std::string& place) {
  BASED_RETURN_IF_ERROR(CheckFields(json, absl::StrCat(path, ": ", place),
                                    {"sha256", "tenant", "permissions", "expires", "comment"}));
  JsonFields fields(json, path, place);
  AccessKey key;
  const std::string digest = fields.String("sha256");
  key.tenant = fields.StringOr("tenant", "");
  const std::string expires = fields.StringOr("expires", "");
  key.comment = fields.StringOr("comment", "");
  BASED_RETURN_IF_ERROR(fields.status());
  const bool hex = digest.size() == 2 * key.digest.size() &&
                   digest.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  // Not shown: it may be the key itself, pasted by mistake.
  if (!hex) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", place, "sha256 is no hash, expected 64 hexadecimal digits"));
  }
  const std::string bytes = absl::HexStringToBytes(digest);
  std::copy(bytes.begin(), bytes.end(), key.digest.begin());
  std::string error;
  if (!expires.empty() && !absl::ParseTime(absl::RFC3339_full, expires, &key.expires, &error)) {
    fields.Wrong("expires", json["expires"], "a time such as \"2027-01-01T00:00:00Z\"");
  }
  BASED_ASSIGN_OR_RETURN(key.permissions, ReadPermissions(fields));
  return key;
}

absl::Status Twice(const std::string& path, const std::string& place, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", place, what));
}

}  // namespace

absl::Status CheckLimits(const TenantLimits& limits) {
  const auto within = [](double value, double low, double high) {
    return value >= low && value <= high;
  };
  const char* wrong = !within(limits.weight, kLeastWeight, kLargestWeight)   ? "weight"
                      : !within(limits.requests_per_second, 0, kLargestRate) ? "requests_per_second"
                      : !within(limits.tokens_per_second, 0, kLargestRate)   ? "tokens_per_second"
                      : limits.max_concurrent < 0                            ? "max_concurrent"
                                                                             : nullptr;
  if (wrong == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("limits.", wrong, " is out of its range"));
}

absl::string_view PermissionName(Permission permission) {
  for (const auto& [name, value] : kPermissions) {
    if (value == permission) return name;
  }
  return "";
}

KeyDigest DigestOf(absl::string_view key) {
  KeyDigest digest;
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), digest.data());
  return digest;
}

absl::StatusOr<AccessFile> ParseAccessFile(absl::string_view text, const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const Json root,
                         ParseJsonObject(std::string_view(text.data(), text.size()), path, kDepth));
  BASED_RETURN_IF_ERROR(CheckFields(root, absl::StrCat(path, ": "), {"tenants", "keys"}));
  AccessFile file;
  std::set<std::string> names = {""};
  BASED_ASSIGN_OR_RETURN(const auto tenants, Items(root, path, "tenants", kMaxTenants));
  for (const auto& [json, place] : tenants) {
    BASED_ASSIGN_OR_RETURN(TenantLimits tenant, ReadTenant(*json, path, place));
    const bool first = names.insert(tenant.name).second || tenant.name.empty();
    const bool default_twice =
        tenant.name.empty() && std::any_of(file.tenants.begin(), file.tenants.end(),
                                           [](const auto& other) { return other.name.empty(); });
    if (!first || default_twice) return Twice(path, place, "name is that of an earlier tenant");
    file.tenants.push_back(std::move(tenant));
  }
  file.keys_required = root.contains("keys");
  std::set<KeyDigest> digests;
  BASED_ASSIGN_OR_RETURN(const auto keys, Items(root, path, "keys", kMaxKeys));
  for (const auto& [json, place] : keys) {
    BASED_ASSIGN_OR_RETURN(AccessKey key, ReadKey(*json, path, place));
    if (!names.contains(key.tenant)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", place, "tenant is ",
                                                     JsonExcerpt(Json(key.tenant)),
                                                     ", expected the name of one in tenants"));
    }
    if (!digests.insert(key.digest).second) {
      return Twice(path, place, "sha256 is that of an earlier key");
    }
    file.keys.push_back(std::move(key));
  }
  if (file.keys_required && file.keys.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": keys is empty, expected one key or more, or no field `keys`"));
  }
  return file;
}

absl::StatusOr<AccessFile> ReadAccessFile(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IWOTH) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": everybody may write it; expected chmod o-w"));
  }
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxFileBytes));
  return ParseAccessFile(text, path);
}

}  // namespace based
