// Statuses of the engine as OpenAI's error objects.
#include "server/openai_error.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using nlohmann::json;

OpenAiError Of(const absl::Status& status, OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions) {
  return ErrorOfStatus(status, endpoint);
}

TEST(ErrorOfStatus, StatusCodes) {
  EXPECT_EQ(Of(absl::InvalidArgumentError("")).status, 400);
  EXPECT_EQ(Of(absl::UnimplementedError("")).status, 400);
  EXPECT_EQ(Of(absl::FailedPreconditionError("")).status, 400);
  EXPECT_EQ(Of(absl::UnauthenticatedError("")).status, 401);
  EXPECT_EQ(Of(absl::PermissionDeniedError("")).status, 403);
  EXPECT_EQ(Of(absl::NotFoundError("")).status, 404);
  EXPECT_EQ(Of(absl::NotFoundError("")).code, "model_not_found");
  EXPECT_EQ(Of(absl::ResourceExhaustedError("")).status, 429);
  EXPECT_EQ(Of(absl::CancelledError("")).status, 499);
  EXPECT_EQ(Of(absl::UnavailableError("")).status, 503);
  EXPECT_EQ(Of(absl::DeadlineExceededError("")).status, 504);
  EXPECT_EQ(Of(absl::InternalError("")).status, 500);
}

TEST(ErrorOfStatus, NamesTheField) {
  EXPECT_EQ(Of(absl::InvalidArgumentError("top_p is 2; expected")).param, "top_p");
  EXPECT_EQ(Of(absl::InvalidArgumentError("stop[3] is 0 bytes long")).param, "stop");
  EXPECT_EQ(Of(absl::InvalidArgumentError("a key of logit_bias is 9;")).param, "logit_bias");
  EXPECT_EQ(Of(absl::InvalidArgumentError("messages is 5 tokens"), OpenAiEndpoint::kChat).param,
            "messages");
  EXPECT_EQ(Of(absl::UnavailableError("the daemon is draining")).param, "");
}

TEST(ErrorBody, IsOpenAisObject) {
  const json body = json::parse(ErrorBody({.status = 400,
                                           .type = "invalid_request_error",
                                           .code = "c",
                                           .param = "n",
                                           .message = "a \"quoted\"\n\x01 word"}));
  EXPECT_EQ(body["error"]["message"], "a \"quoted\"\n\x01 word");
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_EQ(body["error"]["param"], "n");
  EXPECT_EQ(body["error"]["code"], "c");
  EXPECT_TRUE(json::parse(ErrorBody({}))["error"]["param"].is_null());
}

TEST(ErrorResponse, SaysWhenToTryAgain) {
  const auto retry_after = [](int status) -> std::string {
    const OpenAiError error = status == 400   ? Of(absl::InvalidArgumentError(""))
                              : status == 429 ? Of(absl::ResourceExhaustedError(""))
                                              : Of(absl::UnavailableError(""));
    for (const HttpHeader& header : ErrorResponse(error).headers) {
      if (header.name == "retry-after") return header.value;
    }
    return "";
  };
  EXPECT_EQ(retry_after(429), "1");
  EXPECT_EQ(retry_after(503), "1");
  EXPECT_EQ(retry_after(400), "");
}

}  // namespace
}  // namespace based
