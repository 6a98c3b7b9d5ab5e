// Keys and the access file.
#include "server/access.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/log.h"

namespace based {
namespace {

using testing::HasSubstr;

std::string Hash(absl::string_view key) {
  const KeyDigest digest = DigestOf(key);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string FileOf(absl::string_view key, absl::string_view more = "") {
  return absl::StrCat(R"({"tenants": [{"name": "acme", "weight": 2, "max_concurrent": 3,
      "requests_per_second": 1.5, "tokens_per_second": 100}], "keys": [{"sha256": ")",
                      Hash(key), R"(", "tenant": "acme", "permissions": ["generate"])", more,
                      "}]}");
}

class AccessTest : public testing::Test {
 protected:
  AccessTest() {
    SetLogOptions({.level = LogLevel::kOff});
    path_ = absl::StrCat(testing::TempDir(), "/access-", ::getpid(), ".json");
  }
  ~AccessTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) {
    std::ofstream(path_) << text;
    ::chmod(path_.c_str(), 0600);
  }
  std::unique_ptr<AccessControl> Load(const std::string& text) {
    Write(text);
    auto access = AccessControl::Load(path_);
    EXPECT_TRUE(access.ok()) << access.status();
    return access.ok() ? *std::move(access) : nullptr;
  }

  std::string path_;
};

TEST(DigestOf, IsSha256) {
  EXPECT_EQ(Hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(AccessTest, WithoutAFileEverybodyMayDoEverything) {
  const AccessControl open;
  const absl::StatusOr<Caller> caller = open.Authenticate("");
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ(caller->tenant, "");
  EXPECT_TRUE(caller->Has(Permission::kAdmin));
  std::string tenant = "any";
  EXPECT_TRUE(ApplyTenant(*caller, tenant).ok());
  EXPECT_EQ(tenant, "any");
}

TEST_F(AccessTest, AKeyIsItsTenant) {
  const auto access = Load(FileOf("secret"));
  for (const char* authorization : {"Bearer secret", "bearer secret"}) {
    const absl::StatusOr<Caller> caller = access->Authenticate(authorization);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->tenant, "acme");
    EXPECT_TRUE(caller->Has(Permission::kGenerate));
    EXPECT_FALSE(caller->Has(Permission::kSessions));
  }
  const Attempt attempt = {.authorization = "Bearer secret"};
  EXPECT_TRUE(Authorize(*access, Permission::kGenerate, attempt).ok());
  EXPECT_EQ(Authorize(*access, Permission::kAdmin, attempt).status().code(),
            absl::StatusCode::kPermissionDenied);
  ASSERT_EQ(access->tenants().size(), 1u);
  EXPECT_EQ(access->tenants()[0].weight, 2);
  EXPECT_EQ(access->tenants()[0].requests_per_second, 1.5);
  EXPECT_EQ(access->tenants()[0].max_concurrent, 3);
}

TEST_F(AccessTest, EveryReasonGivesTheSameAnswer) {
  const auto access =
      Load(FileOf("old", R"(, "expires": "2001-01-01T00:00:00Z", "comment": "mine")"));
  const std::pair<const char*, const char*> attempts[] = {{"", "missing"},
                                                          {"Basic b2xk", "malformed"},
                                                          {"Bearer ", "unknown"},
                                                          {"Bearer guess", "unknown"},
                                                          {"Bearer old ", "unknown"},
                                                          {"Bearer old", "expired: mine"}};
  for (const auto& [authorization, reason] : attempts) {
    const absl::Status status = access->Authenticate(authorization).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << authorization;
    EXPECT_EQ(status.message(), access->Authenticate("").status().message());
    EXPECT_EQ(DenialReason(status), reason);
  }
}

TEST_F(AccessTest, AKeyCannotNameAnotherTenant) {
  const Caller caller = {.tenant = "acme", .permissions = 1, .has_key = true};
  for (const char* named : {"", "acme"}) {
    std::string tenant = named;
    EXPECT_TRUE(ApplyTenant(caller, tenant).ok());
    EXPECT_EQ(tenant, "acme");
  }
  std::string tenant = "other";
  EXPECT_EQ(ApplyTenant(caller, tenant).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(AccessTest, MetadataNamesTheTenantOfACallWithoutAKey) {
  const AccessControl open;
  absl::StatusOr<Caller> caller = Authorize(open, {.tenant = "acme"});
  ASSERT_TRUE(caller.ok()) << caller.status();
  for (const char* named : {"", "acme"}) {
    std::string tenant = named;
    EXPECT_TRUE(ApplyTenant(*caller, tenant).ok());
    EXPECT_EQ(tenant, "acme");
  }
  std::string tenant = "other";
  const absl::Status status = ApplyTenant(*caller, tenant);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "tenant is not that of the metadata x-tenant; expected it, or nothing");
}

TEST_F(AccessTest, MetadataOfAnotherTenantThanTheKeysIsDenied) {
  const auto access = Load(FileOf("secret"));
  for (const char* named : {"", "acme"}) {
    const auto caller = Authorize(*access, {.authorization = "Bearer secret", .tenant = named});
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->tenant, "acme");
  }
  EXPECT_EQ(
      Authorize(*access, {.authorization = "Bearer secret", .tenant = "other"}).status().code(),
      absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Authorize(*access, {.tenant = "acme"}).status().code(),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(AccessTest, ReloadTakesAllOrNothing) {
  const auto access = Load(FileOf("first"));
  Write(FileOf("second"));
  EXPECT_TRUE(access->Reload().ok());
  EXPECT_FALSE(access->Authenticate("Bearer first").ok());
  EXPECT_TRUE(access->Authenticate("Bearer second").ok());
  for (const char* bad : {"", "{", "{\"keys\": []}"}) {
    Write(bad);
    const absl::Status status = access->Reload();
    EXPECT_FALSE(status.ok()) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
    EXPECT_TRUE(access->Authenticate("Bearer second").ok());
  }
  std::filesystem::remove(path_);
  EXPECT_FALSE(access->Reload().ok());
  EXPECT_TRUE(access->Authenticate("Bearer second").ok());
}

TEST_F(AccessTest, AReloadMayBeginToAskForKeysAndNotCease) {
  const std::string open = R"({"tenants": [{"name": "acme"}]})";
  const auto access = Load(open);
  EXPECT_TRUE(access->Authenticate("").ok());
  Write(FileOf("secret"));
  EXPECT_TRUE(access->Reload().ok());
  EXPECT_FALSE(access->Authenticate("").ok());
  for (const std::string& without : {open, std::string("{}")}) {
    Write(without);
    const absl::Status status = access->Reload();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ": keys is missing"));
    EXPECT_FALSE(access->Authenticate("").ok());
    EXPECT_TRUE(access->Authenticate("Bearer secret").ok());
  }
}

TEST_F(AccessTest, AFileThatEverybodyMayWriteIsRefused) {
  Write(FileOf("secret"));
  ::chmod(path_.c_str(), 0666);
  EXPECT_THAT(std::string(AccessControl::Load(path_).status().message()),
              HasSubstr("everybody may write it"));
}

TEST(ParseAccessFile, ErrorsNameThePlace) {
  const std::string good = FileOf("secret");
  const std::string key = absl::StrCat("{\"sha256\": \"", Hash("secret"), "\"");
  const std::pair<std::string, const char*> cases[] = {
      {"[]", "f: "},
      {R"({"key": []})", "unknown field \"key\""},
      {R"({"tenants": {}})", "tenants is an object, expected an array"},
      {R"({"tenants": [1]})", "tenants[0] is 1, expected an object"},
      {R"({"tenants": [{"weight": 1}]})", "tenants[0].name is missing"},
      {R"({"tenants": [{"name": "a b"}]})", "tenants[0].name is \"a b\""},
      {R"({"tenants": [{"name": "a\n"}]})", "tenants[0].name"},
      {R"({"tenants": [{"name": "a", "weight": 0}]})", "tenants[0].weight is 0"},
      {R"({"tenants": [{"name": "a", "wait": 1}]})", "tenants[0].unknown field \"wait\""},
      {R"({"tenants": [{"name": "a"}, {"name": "a"}]})", "tenants[1].name is that of an earlier"},
      {R"({"tenants": [{"name": ""}, {"name": ""}]})", "tenants[1].name is that of an earlier"},
      {R"({"tenants": [{"name": "a", "max_concurrent": -1}]})", "tenants[0].max_concurrent is -1"},
      {R"({"keys": []})", "keys is empty"},
      {R"({"keys": [{"sha256": "based_secret"}]})", "keys[0].sha256 is no hash"},
      {absl::StrCat("{\"keys\": [", key, "}]}"), "keys[0].permissions is missing"},
      {absl::StrCat("{\"keys\": [", key, ", \"permissions\": [\"root\"]}]}"),
       "keys[0].permissions is \"root\""},
      {absl::StrCat("{\"keys\": [", key, ", \"permissions\": [\"admin\"], \"tenant\": \"x\"}]}"),
       "keys[0].tenant is \"x\""},
      {absl::StrCat("{\"keys\": [", key,
                    ", \"permissions\": [\"admin\"], \"expires\": \"soon\"}]}"),
       "keys[0].expires is \"soon\""},
      {absl::StrCat("{\"keys\": [", key, ", \"permissions\": [\"admin\"]}, ", key,
                    ", \"permissions\": [\"admin\"]}]}"),
       "keys[1].sha256 is that of an earlier key"},
      {std::string(100, '['), "f: "}};
  ASSERT_TRUE(ParseAccessFile(good, "f").ok());
  for (const auto& [text, expected] : cases) {
    const absl::Status status = ParseAccessFile(text, "f").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected)) << text;
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("based_secret")));
  }
}

}  // namespace
}  // namespace based
