// The debug pages.
#include "server/debug_view.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

DebugView View() {
  DebugView view = {.state = DebugView::State::kReady, .uptime_s = 12.5, .model = "tiny"};
  view.capacity.slots_total = 4;
  view.capacity.slots_active = 1;
  view.capacity.slots_free = 3;
  view.capacity.queued_requests = 2;
  view.requests.push_back({.request_id = "r<1>",
                           .tenant = "a\"&<script>\n\xFF",
                           .phase = "decode",
                           .prompt_tokens = 7,
                           .generated_tokens = 3,
                           .position = 10,
                           .slots = {3, 41},
                           .age = std::chrono::milliseconds(1500)});
  view.ended.push_back({.request_id = "e<2>",
                        .tenant = "<b>\n",
                        .outcome = "max_tokens",
                        .prompt_tokens = 5,
                        .generated_tokens = 6,
                        .first_token = std::chrono::milliseconds(20),
                        .total = std::chrono::milliseconds(250),
                        .ago = std::chrono::seconds(3)});
  view.full_tokens_per_second = 1000;
  return view;
}

TEST(DebugJson, ParsesWhateverClientsSend) {
  const auto json = nlohmann::json::parse(DebugJson(View()));
  EXPECT_EQ(json["state"], "ready");
  EXPECT_EQ(json["slots"]["free"], 3);
  EXPECT_EQ(json["queue"]["length"], 2);
  ASSERT_EQ(json["requests"].size(), 1u);
  EXPECT_EQ(json["requests"][0]["request_id"], "r<1>");
  EXPECT_EQ(json["requests"][0]["phase"], "decode");
  EXPECT_EQ(json["requests"][0]["age_s"], 1.5);
  EXPECT_EQ(json["requests"][0]["position"], 10);
  ASSERT_EQ(json["ended"].size(), 1u);
  EXPECT_EQ(json["ended"][0]["outcome"], "max_tokens");
  EXPECT_EQ(json["ended"][0]["first_token_s"], 0.02);
  EXPECT_EQ(json["ended"][0]["ago_s"], 3.0);
  EXPECT_EQ(json["full_tokens_per_second"], 1000.0);
  EXPECT_EQ(json["requests"][0]["slots"], nlohmann::json({3, 41}));
}

TEST(DebugJson, OfManyRequestsTheLatest) {
  DebugView view = View();
  view.requests.push_back({.request_id = "newer"});
  view.requests.push_back({.request_id = "newest"});
  const auto all = nlohmann::json::parse(DebugJson(view));
  EXPECT_EQ(all["live"], 3);
  EXPECT_EQ(all["requests"].size(), 3u);
  const auto two = nlohmann::json::parse(DebugJson(view, 2));
  EXPECT_EQ(two["live"], 3);
  ASSERT_EQ(two["requests"].size(), 2u);
  EXPECT_EQ(two["requests"][0]["request_id"], "newer");
  EXPECT_EQ(two["requests"][1]["request_id"], "newest");
  EXPECT_EQ(nlohmann::json::parse(DebugJson(view, 0))["requests"].size(), 0u);
}

TEST(DebugHtml, EscapesWhatClientsSend) {
  const std::string html = DebugHtml(View());
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_NE(html.find("r&lt;1&gt;"), std::string::npos);
  EXPECT_NE(html.find("a&quot;&amp;&lt;script&gt;"), std::string::npos);
  EXPECT_NE(html.find("e&lt;2&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_NE(html.find("1 of 4 active"), std::string::npos);
  EXPECT_NE(html.find("<td>3, 41</td>"), std::string::npos);
}

}  // namespace
}  // namespace based
