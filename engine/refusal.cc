#include "engine/refusal.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace based {
namespace {

constexpr char kPayload[] = "based.refusal";  // "REASON MILLISECONDS"
constexpr char kNonFinite[] = "based.non_finite";

}  // namespace

absl::Status Refuse(absl::StatusCode code, absl::string_view message, const Refusal& refusal) {
  absl::Status status(code, message);
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(refusal.reason), " ",
                                                      refusal.retry_after.count())));
  return status;
}

std::optional<Refusal> RefusalOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return std::nullopt;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(std::string(*payload), absl::MaxSplits(' ', 1));
  int reason = 0;
  int64_t milliseconds = 0;
  if (!absl::SimpleAtoi(parts.first, &reason) || !absl::SimpleAtoi(parts.second, &milliseconds)) {
    return std::nullopt;
  }
  return Refusal{static_cast<RefusalReason>(reason), std::chrono::milliseconds(milliseconds)};
}

absl::Status NonFiniteLogits() {
  absl::Status status = absl::InternalError("the model's logits are not finite");
  status.SetPayload(kNonFinite, absl::Cord());
  return status;
}

bool IsNonFiniteLogits(const absl::Status& status) {
  return status.GetPayload(kNonFinite).has_value();
}

}  // namespace based
