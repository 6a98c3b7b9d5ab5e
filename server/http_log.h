// The access log of HTTP calls, in the words of the gRPC one.
#ifndef BASED_SERVER_HTTP_LOG_H_
#define BASED_SERVER_HTTP_LOG_H_

#include <chrono>
#include <string>

#include "engine/request.h"
#include "server/http_message.h"

namespace based {

struct HttpCallSummary {
  int status = 200;  // 499: the client left before the end
  std::string message;
  std::string tenant;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  Timings timings;
  std::chrono::nanoseconds total{0};
};

void LogHttpCall(const HttpRequest& request, const std::string& request_id,
                 const HttpCallSummary& summary);

}  // namespace based

#endif  // BASED_SERVER_HTTP_LOG_H_
