// Bytes of a connection as requests: cut anywhere, pipelined, too long, and no HTTP at all.
#include "server/http_parser.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using State = HttpParser::State;

constexpr char kPost[] =
    "POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nX-Name: v\r\nContent-Length: 5\r\n\r\nhello";

TEST(HttpParser, ReadsARequestCutAnywhere) {
  const std::string text = kPost;
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    HttpParser parser({});
    std::string input = text.substr(0, cut);
    input.erase(0, parser.Put(input));
    input += text.substr(cut);
    input.erase(0, parser.Put(input));
    ASSERT_EQ(parser.state(), State::kDone) << cut;
    EXPECT_TRUE(input.empty());
    const HttpRequest request = parser.Take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/x");
    EXPECT_EQ(request.Header("x-name"), "v");
    EXPECT_EQ(request.Header("absent"), "");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_EQ(parser.state(), State::kIdle);
  }
}

TEST(HttpParser, PipelinedRequestsComeOneByOne) {
  HttpParser parser({});
  std::string input = std::string("\r\n") + kPost + "GET /b HTTP/1.0\r\n\r\n";
  input.erase(0, parser.Put(input));
  ASSERT_EQ(parser.state(), State::kDone);
  EXPECT_EQ(parser.Take().body, "hello");
  input.erase(0, parser.Put(input));
  ASSERT_EQ(parser.state(), State::kDone);
  const HttpRequest second = parser.Take();
  EXPECT_EQ(second.path, "/b");
  EXPECT_FALSE(second.keep_alive);
  EXPECT_FALSE(second.chunked);
}

TEST(HttpParser, ChunkedBodies) {
  HttpParser parser({});
  parser.Put(
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  ASSERT_EQ(parser.state(), State::kDone);
  EXPECT_EQ(parser.Take().body, "abcde");
}

TEST(HttpParser, LimitsOfHeaderAndBody) {
  const HttpLimits limits{.header_bytes = 100, .body_bytes = 10};
  HttpParser header(limits);
  header.Put("GET / HTTP/1.1\r\nA: " + std::string(200, 'a'));
  ASSERT_EQ(header.state(), State::kFailed);
  EXPECT_EQ(header.failure().status, 431);
  HttpParser body(limits);
  body.Put("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n");
  ASSERT_EQ(body.state(), State::kFailed);
  EXPECT_EQ(body.failure().status, 413);
  EXPECT_THAT(body.failure().message, testing::HasSubstr("10 bytes"));
  HttpParser chunked(limits);
  chunked.Put("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n");
  ASSERT_EQ(chunked.state(), State::kFailed);
  EXPECT_EQ(chunked.failure().status, 413);
}

TEST(HttpParser, WhatIsNoHttp) {
  for (const char* text :
       {"hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "\x16\x03\x01 tls hello \r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    HttpParser parser({});
    parser.Put(text);
    ASSERT_EQ(parser.state(), State::kFailed) << text;
    EXPECT_EQ(parser.failure().status, 400) << text;
  }
}

TEST(HttpParser, ExpectContinueIsToldOnce) {
  HttpParser parser({});
  parser.Put("POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(parser.state(), State::kBody);
  EXPECT_TRUE(parser.TakeExpectsContinue());
  EXPECT_FALSE(parser.TakeExpectsContinue());
  parser.Put("ab");
  EXPECT_EQ(parser.state(), State::kDone);
}

}  // namespace
}  // namespace based
