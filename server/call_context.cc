#include "server/call_context.h"

#include "server/request_id.h"

namespace based {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";

}  // namespace

std::string RequestIdOf(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find(kRequestIdKey);
  if (found == context.client_metadata().end()) return RequestIdFrom("");
  return RequestIdFrom(absl::string_view(found->second.data(), found->second.size()));
}

Clock::time_point DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return Clock::time_point::max();
  const auto left = deadline - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) return Clock::time_point::max();
  return Clock::now() + left;
}

}  // namespace based
