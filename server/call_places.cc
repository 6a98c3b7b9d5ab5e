#include "server/call_places.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"

namespace based {
namespace {

constexpr std::chrono::milliseconds kRetryAfter{1000};

absl::Status NoPlace(absl::string_view whose, const std::string& what, int32_t most,
                     RefusalReason reason) {
  return Refuse(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat(whose, most, " ", what, " are under way already, the most there may be"),
      {.reason = reason, .retry_after = kRetryAfter});
}

}  // namespace

CallPlaces::CallPlaces(std::string what, int32_t most, int32_t most_of_tenant)
    : what_(std::move(what)), most_(most), most_of_tenant_(most_of_tenant) {}

absl::StatusOr<std::shared_ptr<void>> CallPlaces::Take(const std::string& tenant) {
  MutexLock lock(taken_->mutex);
  if (taken_->all >= most_) return NoPlace("", what_, most_, RefusalReason::kQueueFull);
  const auto own = taken_->of_tenant.find(tenant);
  if (own != taken_->of_tenant.end() && own->second >= most_of_tenant_) {
    return NoPlace("of the tenant ", what_, most_of_tenant_, RefusalReason::kConcurrency);
  }
  ++taken_->all;
  ++taken_->of_tenant[tenant];
  return std::shared_ptr<void>(taken_.get(), [taken = taken_, tenant](void*) {
    MutexLock released(taken->mutex);
    --taken->all;
    if (--taken->of_tenant[tenant] == 0) taken->of_tenant.erase(tenant);
  });
}

}  // namespace based
