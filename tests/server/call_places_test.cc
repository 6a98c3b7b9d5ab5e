// Places that no tenant can take all.
#include "server/call_places.h"

#include <vector>

#include "engine/refusal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;

TEST(CallPlaces, NoTenantTakesThemAll) {
  CallPlaces places("calls", 3, 2);
  std::vector<std::shared_ptr<void>> taken;
  for (const char* tenant : {"a", "a", "b"}) {
    auto place = places.Take(tenant);
    ASSERT_TRUE(place.ok()) << place.status();
    taken.push_back(*place);
  }
  const absl::Status full = places.Take("c").status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("3 calls are under way"));
  taken.pop_back();
  const absl::Status greedy = places.Take("a").status();
  EXPECT_THAT(std::string(greedy.message()), HasSubstr("of the tenant 2 calls"));
  ASSERT_TRUE(RefusalOf(greedy).has_value());
  EXPECT_GT(RefusalOf(greedy)->retry_after.count(), 0);
  taken.erase(taken.begin());
  EXPECT_TRUE(places.Take("a").ok());
  EXPECT_TRUE(places.Take("c").ok());
}

TEST(CallPlaces, APlaceMayOutliveThem) {
  std::shared_ptr<void> place;
  {
    CallPlaces places("calls", 1, 1);
    place = *places.Take("a");
  }
  place.reset();
}

}  // namespace
}  // namespace based
