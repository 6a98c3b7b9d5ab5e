// The W3C trace context that a call brings: the header or metadata `traceparent`.
#ifndef BASED_SERVER_TRACE_CONTEXT_H_
#define BASED_SERVER_TRACE_CONTEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/log.h"

namespace based {

struct TraceContext {
  std::string trace_id;   // 32 hexadecimal digits; empty: none
  std::string parent_id;  // 16: the caller's span
  bool sampled = false;
};

// Adds trace_id and parent_id where there are any. `trace` must outlive the fields.
void AppendTrace(const TraceContext& trace, std::vector<LogField>& fields);

// Empty where `traceparent` is not what the standard asks for: such a one is to be ignored.
TraceContext ParseTraceparent(absl::string_view traceparent);

}  // namespace based

#endif  // BASED_SERVER_TRACE_CONTEXT_H_
