#include "server/http_log.h"

#include <vector>

#include "server/log.h"
#include "server/trace_context.h"

namespace based {
namespace {

constexpr size_t kMostPathBytes = 128;

int64_t Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

}  // namespace

void LogHttpCall(const HttpRequest& request, const std::string& request_id,
                 const HttpCallSummary& summary) {
  const std::string path = request.path.substr(0, kMostPathBytes);
  // Probes and listings come all the time.
  const bool quiet = request.method != "POST" && summary.status < 400;
  const std::string_view traceparent = request.Header("traceparent");
  const TraceContext trace =
      ParseTraceparent(absl::string_view(traceparent.data(), traceparent.size()));
  std::vector<LogField> fields = {{"request_id", absl::string_view(request_id)},
                                  {"peer", absl::string_view(request.peer)},
                                  {"tenant", absl::string_view(summary.tenant)},
                                  {"method", absl::string_view(request.method)},
                                  {"path", absl::string_view(path)},
                                  {"status", int64_t{summary.status}},
                                  {"message", absl::string_view(summary.message)},
                                  {"prompt_tokens", summary.prompt_tokens},
                                  {"generated_tokens", summary.generated_tokens},
                                  {"queue_us", Microseconds(summary.timings.queue)},
                                  {"prefill_us", Microseconds(summary.timings.prefill)},
                                  {"decode_us", Microseconds(summary.timings.decode)},
                                  {"total_us", Microseconds(summary.total)}};
  AppendTrace(trace, fields);
  LogFields(quiet ? LogLevel::kDebug : LogLevel::kInfo, "http", fields);
}

}  // namespace based
