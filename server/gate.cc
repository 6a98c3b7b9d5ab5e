#include "server/gate.h"

#include "kernels/base/status.h"
#include "server/call_context.h"

namespace based {

absl::StatusOr<Gate::Entry> Gate::Enter(const grpc::CallbackServerContext& context,
                                        std::optional<Permission> needed,
                                        absl::string_view request_id) const {
  const std::string peer = context.peer();
  const Attempt attempt = {.authorization = MetadataOf(context, "authorization"),
                           .peer = peer,
                           .request_id = request_id};
  BASED_ASSIGN_OR_RETURN(
      Caller caller, needed ? Authorize(access_, *needed, attempt) : Authorize(access_, attempt));
  Engine* engine = engine_.load(std::memory_order_acquire);
  if (engine == nullptr) return absl::UnavailableError("the model is loading");
  return Entry{.engine = *engine, .caller = std::move(caller)};
}

}  // namespace based
