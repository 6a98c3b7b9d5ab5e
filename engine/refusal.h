// Why a request was refused before it was queued, and when to ask again, or that its model failed
// it, carried by its absl::Status.
#ifndef BASED_ENGINE_REFUSAL_H_
#define BASED_ENGINE_REFUSAL_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace based {

enum class RefusalReason : uint8_t {
  kQueueFull,    // requests in the queue
  kQueueTokens,  // tokens in the queue
  kRequestRate,  // the tenant's limit
  kTokenRate,    // the tenant's limit
  kConcurrency,  // the tenant's limit
  kDeadline,     // cannot be met
};

struct Refusal {
  RefusalReason reason = RefusalReason::kQueueFull;
  // Wait after which another try may succeed; 0: none would.
  std::chrono::milliseconds retry_after{0};
};

// A status that carries `refusal`.
absl::Status Refuse(absl::StatusCode code, absl::string_view message, const Refusal& refusal);

// What `status` carries; nothing for statuses that Refuse has not made.
std::optional<Refusal> RefusalOf(const absl::Status& status);

// INTERNAL: the model has computed NaN or infinite logits.
absl::Status NonFiniteLogits();
bool IsNonFiniteLogits(const absl::Status& status);

}  // namespace based

#endif  // BASED_ENGINE_REFUSAL_H_
