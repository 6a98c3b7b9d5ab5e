#include "server/gate.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/call_context.h"

namespace based {
namespace {

// What HTTP/2 counts for a field beyond its name and value.
constexpr size_t kFieldBytes = 32;

absl::Status CheckMetadata(const grpc::CallbackServerContext& context, int32_t most) {
  size_t bytes = 0;
  for (const auto& [key, value] : context.client_metadata()) {
    bytes += key.size() + value.size() + kFieldBytes;
  }
  if (bytes <= static_cast<size_t>(most)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the call's metadata takes ", bytes, " bytes; the limit is ", most, " (--max_header_bytes)"));
}

}  // namespace

absl::StatusOr<Gate::Entry> Gate::Enter(const grpc::CallbackServerContext& context,
                                        std::optional<Permission> needed,
                                        absl::string_view request_id) const {
  BASED_RETURN_IF_ERROR(CheckMetadata(context, max_header_bytes_));
  const std::string peer = context.peer();
  const Attempt attempt = {.authorization = MetadataOf(context, "authorization"),
                           .tenant = MetadataOf(context, kTenantMetadata),
                           .peer = peer,
                           .request_id = request_id};
  BASED_ASSIGN_OR_RETURN(
      Caller caller, needed ? Authorize(access_, *needed, attempt) : Authorize(access_, attempt));
  Engine* engine = engine_.load(std::memory_order_acquire);
  if (engine == nullptr) return absl::UnavailableError("the model is loading");
  return Entry{.engine = *engine, .chat = chat_, .caller = std::move(caller)};
}

}  // namespace based
