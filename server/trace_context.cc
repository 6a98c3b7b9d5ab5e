#include "server/trace_context.h"

namespace based {
namespace {

constexpr absl::string_view kDigits = "0123456789abcdef";
// version "-" trace id "-" parent id "-" flags
constexpr size_t kTraceAt = 3, kTraceDigits = 32;
constexpr size_t kParentAt = kTraceAt + kTraceDigits + 1, kParentDigits = 16;
constexpr size_t kFlagsAt = kParentAt + kParentDigits + 1;
constexpr size_t kLength = kFlagsAt + 2;

bool IsHex(absl::string_view text) {
  return text.find_first_not_of(kDigits) == absl::string_view::npos;
}

bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

}  // namespace

void AppendTrace(const TraceContext& trace, std::vector<LogField>& fields) {
  if (trace.trace_id.empty()) return;
  fields.push_back({"trace_id", absl::string_view(trace.trace_id)});
  fields.push_back({"parent_id", absl::string_view(trace.parent_id)});
}

TraceContext ParseTraceparent(absl::string_view traceparent) {
  if (traceparent.size() < kLength) return {};
  const absl::string_view version = traceparent.substr(0, 2);
  const absl::string_view trace = traceparent.substr(kTraceAt, kTraceDigits);
  const absl::string_view parent = traceparent.substr(kParentAt, kParentDigits);
  const absl::string_view flags = traceparent.substr(kFlagsAt, 2);
  // Versions to come may be longer, behind another dash; ff is none.
  const bool ends =
      traceparent.size() == kLength || (version != "00" && traceparent[kLength] == '-');
  if (!ends || !IsHex(version) || version == "ff" || !IsHex(trace) || IsZero(trace) ||
      !IsHex(parent) || IsZero(parent) || !IsHex(flags) || traceparent[kTraceAt - 1] != '-' ||
      traceparent[kParentAt - 1] != '-' || traceparent[kFlagsAt - 1] != '-') {
    return {};
  }
  return {.trace_id = std::string(trace),
          .parent_id = std::string(parent),
          .sampled = kDigits.find(flags[1]) % 2 == 1};
}

}  // namespace based
