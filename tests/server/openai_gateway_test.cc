// The HTTP API over a scripted engine, without a network.
#include "server/openai_gateway.h"

#include <fstream>
#include <thread>

#include "absl/strings/escaping.h"
#include "engine/refusal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/log.h"
#include "tests/server/fake_engine.h"
#include "tests/server/fake_exchange.h"

namespace based {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class GatewayTest : public testing::Test {
 protected:
  void Start(FakeEngineOptions engine_options = {}, OpenAiGatewayOptions options = {},
             const ServedChatTemplate& chat_template = nullptr) {
    SetLogOptions({.level = LogLevel::kOff});
    engine_ = std::make_unique<FakeEngine>(std::move(engine_options), &metrics_);
    gateway_ = std::make_unique<OpenAiGateway>(std::move(options), *access_, metrics_);
    gateway_->Serve(*engine_, {.chat_template = chat_template});
  }

  std::shared_ptr<FakeExchange> Send(HttpRequest request) {
    auto exchange = std::make_shared<FakeExchange>(std::move(request));
    gateway_->Handle(exchange);
    return exchange;
  }

  std::shared_ptr<FakeExchange> Post(const std::string& path, const std::string& body,
                                     std::vector<HttpHeader> headers = {}) {
    headers.push_back({"content-type", "application/json; charset=utf-8"});
    return Send({.method = "POST", .path = path, .headers = std::move(headers), .body = body});
  }

  std::shared_ptr<FakeExchange> Get(const std::string& path) {
    return Send({.method = "GET", .path = path});
  }

  static json Body(const std::shared_ptr<FakeExchange>& exchange) {
    EXPECT_TRUE(exchange->WaitForEnd());
    return json::parse(exchange->response().body);
  }

  bool WaitForLine(const std::string& line) {
    for (int i = 0; i < 1000; ++i) {
      if (metrics_.Render().find("\n" + line + "\n") != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  Metrics metrics_;
  std::unique_ptr<AccessControl> access_ = std::make_unique<AccessControl>();
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<OpenAiGateway> gateway_;
};

TEST_F(GatewayTest, WholeAndStreamedTextAreTheSame) {
  Start();
  const auto whole = Post("/v1/completions", R"({"prompt":"x","max_tokens":500})");
  EXPECT_EQ(Body(whole)["choices"][0]["text"].get<std::string>().size(), 1500u);
  EXPECT_EQ(Body(whole)["usage"]["completion_tokens"], 500);
  const auto stream = Post("/v1/completions", R"({"prompt":"x","max_tokens":500,"stream":true})");
  ASSERT_TRUE(stream->WaitForEnd());
  std::string text;
  for (const json& event : EventsOf(stream->response().body)) {
    text += event["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, Body(whole)["choices"][0]["text"]);
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
}

TEST_F(GatewayTest, HeadersNameTheRequestAndWhatWasIgnored) {
  Start();
  const auto exchange =
      Post("/v1/completions", R"({"prompt":"x","zoo":1,"b\r\nad":2})", {{"x-request-id", "mine"}});
  EXPECT_EQ(Body(exchange)["id"], "cmpl-mine");
  EXPECT_EQ(exchange->Header("x-request-id"), "mine");
  EXPECT_EQ(exchange->Header("x-based-ignored-fields"), "b??ad, zoo");
  EXPECT_EQ(engine_->requests()[0].request_id, "mine");
}

TEST_F(GatewayTest, ManyPromptsMakeOneAnswer) {
  Start();
  const auto exchange =
      Post("/v1/completions", R"({"prompt":["x","y","z"],"max_tokens":3,"stream":true,
                                  "stream_options":{"include_usage":true}})");
  ASSERT_TRUE(exchange->WaitForEnd());
  std::string text[3];
  const auto events = EventsOf(exchange->response().body);
  for (const json& event : events) {
    for (const json& choice : event["choices"]) {
      text[choice["index"].get<int>()] += choice["text"].get<std::string>();
    }
  }
  EXPECT_THAT(text, testing::Each("ab ab ab "));
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 9);
  EXPECT_EQ(events.back()["usage"]["prompt_tokens"], 9);
}

TEST_F(GatewayTest, OverloadAndDrainSayWhenToTryAgain) {
  Start({.reject = Refuse(absl::StatusCode::kResourceExhausted, "the queue is full",
                          {.retry_after = std::chrono::milliseconds(2500)})});
  for (const char* body : {R"({"prompt":"x"})", R"({"prompt":"x","stream":true})"}) {
    const auto full = Post("/v1/completions", body);
    EXPECT_EQ(Body(full)["error"]["code"], "rate_limit_exceeded");
    EXPECT_EQ(full->response().status, 429);
    EXPECT_EQ(full->Header("retry-after"), "3");
    EXPECT_EQ(full->Header("retry-after-ms"), "2500");
  }
  Start();
  EXPECT_EQ(Body(Get("/health"))["status"], "ok");
  engine_->Drain(std::chrono::milliseconds(0));
  gateway_->SetServing(false);
  const auto draining = Post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(Body(draining)["error"]["code"], "not_serving");
  EXPECT_EQ(draining->response().status, 503);
  EXPECT_EQ(draining->Header("retry-after"), "1");
  EXPECT_EQ(Get("/health")->response().status, 503);
}

TEST_F(GatewayTest, ClientThatLeavesCancelsAllItsPrompts) {
  for (const char* stream : {"true", "false"}) {
    Start({.hold = true});
    const auto exchange =
        Post("/v1/completions", R"({"prompt":["x","y"],"stream":)" + std::string(stream) + "}");
    exchange->Close();
    ASSERT_TRUE(engine_->WaitForCancels(2));
    EXPECT_EQ(engine_->cancels()[0].code(), absl::StatusCode::kCancelled);
    EXPECT_TRUE(WaitForLine("based_streams_open 0"));
  }
}

TEST_F(GatewayTest, SlowReaderIsEnded) {
  Start({}, {.stream_queue_bytes = 2000});
  const auto exchange = Post("/v1/completions", R"({"prompt":"x","max_tokens":9999,
                                                    "stream":true})");
  ASSERT_TRUE(exchange->WaitForEnd());
  EXPECT_THAT(exchange->response().body, HasSubstr("the reader is too slow"));
  EXPECT_LT(exchange->response().body.size(), 4000u);
  ASSERT_TRUE(engine_->WaitForEnds(1));
  ASSERT_EQ(engine_->ends().size(), 1u);
  EXPECT_EQ(engine_->ends()[0].code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GatewayTest, DeadlinesOfFlagAndHeader) {
  Start({}, {.timeout = std::chrono::hours(1)});
  const Clock::time_point before = Clock::now();
  Body(Post("/v1/completions", R"({"prompt":"x"})"));
  Body(Post("/v1/completions", R"({"prompt":"x"})", {{"x-request-timeout-ms", "60000"}}));
  EXPECT_GE(engine_->requests()[0].deadline, before + std::chrono::hours(1));
  EXPECT_LT(engine_->requests()[1].deadline, before + std::chrono::minutes(2));
  const auto wrong = Post("/v1/completions", R"({"prompt":"x"})", {{"x-request-timeout-ms", "-"}});
  EXPECT_EQ(wrong->response().status, 400);
  Start();
  Body(Post("/v1/completions", R"({"prompt":"x"})"));
  EXPECT_EQ(engine_->requests()[0].deadline, Clock::time_point::max());
}

TEST_F(GatewayTest, KeysGuardEverythingButHealth) {
  const std::string path = testing::TempDir() + "/openai_gateway_test_access.json";
  const auto digest = [](absl::string_view key) {
    const KeyDigest bytes = DigestOf(key);
    return absl::BytesToHexString(
        absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  };
  std::ofstream(path) << R"({"tenants":[{"name":"acme"}],"keys":[{"tenant":"acme",
      "permissions":["generate"],"sha256":")"
                      << digest("good") << R"("},
      {"permissions":["admin"],"sha256":")"
                      << digest("admin") << "\"}]}";
  auto access = AccessControl::Load(path);
  ASSERT_TRUE(access.ok()) << access.status();
  access_ = *std::move(access);
  Start();
  const std::string body = R"({"prompt":"x"})";
  const auto none = Post("/v1/completions", body);
  EXPECT_EQ(none->response().status, 401);
  EXPECT_EQ(none->Header("www-authenticate"), "Bearer");
  EXPECT_EQ(Body(none)["error"]["code"], "invalid_api_key");
  for (const char* value : {"Bearer bad", "good", "Basic good"}) {
    EXPECT_EQ(Post("/v1/completions", body, {{"authorization", value}})->response().status, 401);
  }
  EXPECT_EQ(Get("/v1/models")->response().status, 401);
  EXPECT_EQ(Post("/tokenize", body)->response().status, 401);
  EXPECT_EQ(Get("/health")->response().status, 200);
  const HttpHeader admin{"authorization", "Bearer admin"};
  EXPECT_EQ(Post("/v1/completions", body, {admin})->response().status, 403);
  EXPECT_EQ(Post("/tokenize", body, {admin})->response().status, 200);
  EXPECT_TRUE(engine_->requests().empty());
  Body(Post("/v1/completions", body, {{"authorization", "Bearer good"}}));
  ASSERT_EQ(engine_->requests().size(), 1u);
  EXPECT_EQ(engine_->requests()[0].tenant, "acme");
}

TEST_F(GatewayTest, UntilTheModelIsLoadedClientsAreAskedToWait) {
  gateway_ = std::make_unique<OpenAiGateway>(OpenAiGatewayOptions(), *access_, metrics_);
  EXPECT_EQ(Get("/health")->response().status, 503);
  const auto exchange = Post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(exchange->response().status, 503);
  EXPECT_THAT(exchange->response().body, HasSubstr("loading"));
}

TEST_F(GatewayTest, TheModelsOwnTemplateMakesThePrompt) {
  const ServedChatTemplate shouting =
      ChatTemplate::Create("t", "{% for m in messages %}{{ m.content | upper }}!{% endfor %}", {});
  Start({}, {}, shouting);
  const std::string body = R"({"messages":[{"role":"user","content":"ab"}]})";
  EXPECT_EQ(Body(Post("/tokenize", body))["count"], 3);
  EXPECT_EQ(Post("/tokenize", R"({"messages":[],"prompt":"a"})")->response().status, 400);
  Body(Post("/v1/chat/completions", body));
  ASSERT_EQ(engine_->requests().size(), 1u);
  EXPECT_EQ(engine_->requests()[0].prompt_text, "AB!");
}

TEST_F(GatewayTest, TemplateThatCannotBeUsedIsNamed) {
  Start({}, {}, ChatTemplate::Create("chat_template.jinja", "{% include 'x' %}", {}));
  const std::string body = R"({"messages":[{"role":"user","content":"a"}]})";
  for (const char* path : {"/v1/chat/completions", "/tokenize"}) {
    const auto exchange = Post(path, body);
    EXPECT_EQ(exchange->response().status, 400);
    EXPECT_EQ(Body(exchange)["error"]["param"], "messages");
    EXPECT_THAT(exchange->response().body, HasSubstr("chat_template.jinja: line 1: the tag"));
  }
}

TEST_F(GatewayTest, RoutesAndTypes) {
  Start();
  EXPECT_EQ(Body(Get("/v1/models"))["data"][0]["id"], "fake");
  EXPECT_GT(Body(Get("/v1/models"))["data"][0]["vocab_size"], 0);
  EXPECT_EQ(Body(Get("/v1/models/fake"))["object"], "model");
  EXPECT_EQ(Get("/v1/models/other")->response().status, 404);
  EXPECT_EQ(Body(Get("/v1/models/other"))["error"]["code"], "model_not_found");
  EXPECT_EQ(Body(Get("/v2"))["error"]["code"], "unknown_url");
  EXPECT_EQ(Get("/v1/completions")->response().status, 405);
  EXPECT_EQ(Get("/v1/completions")->Header("allow"), "POST");
  EXPECT_EQ(Send({.method = "HEAD", .path = "/health"})->response().status, 200);
  EXPECT_EQ(Body(Post("/v1/embeddings", "{}"))["error"]["code"], "unsupported_parameter");
  const auto form = Send({.method = "POST",
                          .path = "/v1/completions",
                          .headers = {{"content-type", "application/x-www-form-urlencoded"}},
                          .body = R"({"prompt":"x"})"});
  EXPECT_EQ(form->response().status, 415);
  EXPECT_EQ(Post("/v1/completions", "{}", {{"content-encoding", "gzip"}})->response().status, 415);
  EXPECT_TRUE(engine_->requests().empty());
}

TEST_F(GatewayTest, WhatIsRefusedBeforeTheEngineIsCounted) {
  Start();
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":7})")->response().status, 400);
  EXPECT_TRUE(
      WaitForLine("based_rejections_total{code=\"INVALID_ARGUMENT\",reason=\"request\"} 1"));
}

TEST_F(GatewayTest, Tokenizer) {
  Start();
  EXPECT_EQ(Body(Post("/tokenize", R"({"prompt":"xyz"})"))["tokens"], json::parse("[0,0,0]"));
  EXPECT_EQ(Body(Post("/tokenize", R"({"prompt":"xyz"})"))["count"], 3);
  EXPECT_EQ(Body(Post("/detokenize", R"({"tokens":[0,0]})"))["prompt"], "aa");
  const auto wrong = Body(Post("/detokenize", R"({"tokens":[0,100]})"));
  EXPECT_THAT(wrong["error"]["message"].get<std::string>(), HasSubstr("tokens[1] is 100"));
  EXPECT_EQ(wrong["error"]["param"], "tokens");
  for (const auto& [path, field] :
       {std::pair{"/tokenize", "prompt"}, std::pair{"/detokenize", "tokens"}}) {
    for (const std::string& body : {std::string("{}"), absl::StrCat("{\"", field, "\":null}")}) {
      const auto missing = Post(path, body);
      EXPECT_EQ(missing->response().status, 400) << path << body;
      EXPECT_EQ(Body(missing)["error"]["param"], field);
      EXPECT_THAT(missing->response().body, HasSubstr(absl::StrCat(field, " is not set")));
    }
  }
  EXPECT_EQ(Post("/tokenize", R"({"prompt":"x","text":"y"})")->Header("x-based-ignored-fields"),
            "text");
  EXPECT_EQ(Post("/detokenize", R"({"tokens":[0],"a":1,"b":2})")->Header("x-based-ignored-fields"),
            "a, b");
  EXPECT_EQ(Body(Post("/tokenize", R"({"prompt":""})"))["count"], 0);
  Start({.tokenizer = false});
  EXPECT_EQ(Post("/tokenize", R"({"prompt":"x"})")->response().status, 400);
  EXPECT_EQ(Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}]})")
                ->response()
                .status,
            400);
}

TEST_F(GatewayTest, CorsOnlyWhereItIsAllowed) {
  Start();
  EXPECT_EQ(Get("/health")->Header("access-control-allow-origin"), "");
  EXPECT_EQ(Send({.method = "OPTIONS", .path = "/v1/completions"})->response().status, 405);
  Start({}, {.cors_origin = "https://chat.example"});
  EXPECT_EQ(Get("/health")->Header("access-control-allow-origin"), "https://chat.example");
  const auto preflight = Send({.method = "OPTIONS", .path = "/v1/completions"});
  EXPECT_EQ(preflight->response().status, 204);
  EXPECT_THAT(preflight->Header("access-control-allow-headers"), HasSubstr("authorization"));
}

}  // namespace
}  // namespace based
