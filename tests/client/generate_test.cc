// The two ways of `based generate` say the same: options become equal requests, and an event prints
// as the message that it came from.
#include <random>
#include <string>

#include "client/generate_json.h"
#include "client/generate_local.h"
#include "client/generate_remote.h"
#include "client/remote.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/convert.h"

namespace based {
namespace {

GenerateOptions EveryServedOption() {
  GenerateOptions options;
  options.text = "Once";
  options.sampling = {.temperature = 0.7f,
                      .top_k = 5,
                      .top_p = 0.9f,
                      .min_p = 0.1f,
                      .typical_p = 0.8f,
                      .repetition_penalty = 1.5f,
                      .presence_penalty = -0.5f,
                      .frequency_penalty = 0.25f,
                      .logit_bias = {{3, 1.5f}},
                      .bad_words = {"a", "b"},
                      .allowed_token_ids = {1, 2, 3},
                      .seed = 9};
  options.stop = {.max_tokens = 12,
                  .strings = {"x", "yz"},
                  .token_ids = {4},
                  .ignore_eos = true,
                  .min_tokens = 2,
                  .include_stop = true};
  options.output = {.text = false,
                    .token_ids = true,
                    .logprobs = true,
                    .top_logprobs = 3,
                    .echo = true,
                    .prompt_logprobs = true,
                    .tokens_per_message = 4,
                    .delta_interval_ms = 6};
  options.n = 2;
  options.best_of = 3;
  return options;
}

void ExpectEqual(const Request& here, const Request& there) {
  EXPECT_EQ(here.prompt_is_text, there.prompt_is_text);
  EXPECT_EQ(here.prompt_text, there.prompt_text);
  EXPECT_EQ(here.prompt_token_ids, there.prompt_token_ids);
  const SamplingParams& a = here.sampling;
  const SamplingParams& b = there.sampling;
  EXPECT_EQ(std::tie(a.temperature, a.top_k, a.top_p, a.min_p, a.typical_p, a.repetition_penalty),
            std::tie(b.temperature, b.top_k, b.top_p, b.min_p, b.typical_p, b.repetition_penalty));
  EXPECT_EQ(
      std::tie(a.presence_penalty, a.frequency_penalty, a.bad_words, a.allowed_token_ids, a.seed),
      std::tie(b.presence_penalty, b.frequency_penalty, b.bad_words, b.allowed_token_ids, b.seed));
  ASSERT_EQ(a.logit_bias.size(), b.logit_bias.size());
  for (size_t i = 0; i < a.logit_bias.size(); ++i) {
    EXPECT_EQ(a.logit_bias[i].id, b.logit_bias[i].id);
    EXPECT_EQ(a.logit_bias[i].bias, b.logit_bias[i].bias);
  }
  const StopConditions& s = here.stop;
  const StopConditions& t = there.stop;
  EXPECT_EQ(std::tie(s.max_tokens, s.strings, s.token_ids, s.ignore_eos, s.min_tokens),
            std::tie(t.max_tokens, t.strings, t.token_ids, t.ignore_eos, t.min_tokens));
  EXPECT_EQ(s.include_stop, t.include_stop);
  const OutputOptions& o = here.output;
  const OutputOptions& p = there.output;
  EXPECT_EQ(std::tie(o.text, o.token_ids, o.logprobs, o.top_logprobs, o.echo, o.prompt_logprobs),
            std::tie(p.text, p.token_ids, p.logprobs, p.top_logprobs, p.echo, p.prompt_logprobs));
  EXPECT_EQ(std::tie(o.tokens_per_message, o.delta_interval),
            std::tie(p.tokens_per_message, p.delta_interval));
  EXPECT_EQ(std::tie(here.n, here.best_of, here.priority, here.tenant),
            std::tie(there.n, there.best_of, there.priority, there.tenant));
}

TEST(GenerateOptions, BecomeEqualRequestsHereAndAtADaemon) {
  GenerateOptions ids;
  ids.prompt_is_text = false;
  ids.token_ids = {1, 2};
  for (const GenerateOptions& options : {EveryServedOption(), GenerateOptions(), ids}) {
    for (const bool has_tokenizer : {false, true}) {
      const auto here = ToRequest(options, has_tokenizer);
      const auto there = RequestFromProto(ToProto(options), has_tokenizer);
      ASSERT_TRUE(here.ok()) << here.status();
      ASSERT_TRUE(there.ok()) << there.status();
      ExpectEqual(*here, *there);
    }
  }
}

TEST(GenerateOptions, ConstraintsAreTheSameHereAndAtADaemon) {
  std::vector<GenerateOptions> all(5);
  all[0].constraint.json_schema = "{}";
  all[1].constraint.json = true;
  all[2].constraint.regex = "a+";
  all[3].constraint.choice = {"yes", "no"};
  all[4].constraint.grammar = "root ::= \"a\"";
  for (const GenerateOptions& options : all) {
    const auto here = ToRequest(options, true);
    const auto there = RequestFromProto(ToProto(options), true);
    ASSERT_TRUE(here.ok()) << here.status();
    ASSERT_TRUE(there.ok()) << there.status();
    EXPECT_NE(here->constraint.kind, ConstraintAsk::Kind::kNothing);
    EXPECT_EQ(here->constraint.kind, there->constraint.kind);
    EXPECT_EQ(here->constraint.text, there->constraint.text);
    EXPECT_EQ(here->constraint.choices, there->constraint.choices);
  }
}

TEST(GenerateOptions, WhatNeitherServesIsNamed) {
  GenerateOptions options;
  options.state.session = "s";
  const auto here = ToRequest(options, true);
  EXPECT_EQ(here.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(here.status().message()), testing::HasSubstr("state.session is set"));
  options.state = {};
  options.output.tokens_per_message = 0;
  for (const absl::Status& status :
       {ToRequest(options, true).status(), RequestFromProto(ToProto(options), true).status()}) {
    EXPECT_EQ(status, absl::InvalidArgumentError(
                          "output.tokens_per_message is 0; expected a number in [1, 65536]"));
  }
}

void AddToken(std::mt19937& random, v1::TokenLogprob& token) {
  std::uniform_real_distribution<float> logprob(-20, 0);
  token.set_token_id(static_cast<int32_t>(random() % 1000));
  token.set_logprob(logprob(random));
  for (auto i = random() % 3; i > 0; --i) {
    auto& alternative = *token.add_alternatives();
    alternative.set_token_id(static_cast<int32_t>(random() % 1000));
    alternative.set_logprob(logprob(random));
  }
}

v1::GenerateResponse RandomMessage(std::mt19937& random) {
  v1::GenerateResponse message;
  const auto number = [&random] { return static_cast<int64_t>(random()) << (random() % 20); };
  switch (random() % 3) {
    case 0: {
      v1::Started& started = *message.mutable_started();
      started.set_request_id("id \"7\"");
      started.set_seed(~uint64_t{0} - random());
      started.set_prompt_tokens(number());
      started.set_reused_tokens(number());
      started.set_predicted_wait_ms(number());
      break;
    }
    case 1: {
      v1::Delta& delta = *message.mutable_delta();
      delta.set_index(static_cast<int32_t>(random() % 64));
      delta.set_text("a\n\"\\ \u00e9\u6f22\U0001f600\x01");
      for (auto i = random() % 3; i > 0; --i) delta.add_token_ids(static_cast<int32_t>(i));
      for (auto i = random() % 3; i > 0; --i) AddToken(random, *delta.add_logprobs());
      for (auto i = random() % 3; i > 0; --i) AddToken(random, *delta.add_prompt_logprobs());
      break;
    }
    default: {
      v1::Done& done = *message.mutable_done();
      done.set_index(static_cast<int32_t>(random() % 64));
      done.set_finish_reason(static_cast<v1::FinishReason>(random() % 5));
      if (random() % 2 == 0)
        done.set_stop_string(
            "\n\xff"
            "end");
      if (random() % 3 == 0) done.set_stop_token_id(static_cast<int32_t>(random() % 2));
      done.mutable_usage()->set_prompt_tokens(number());
      done.mutable_usage()->set_generated_tokens(number());
      done.mutable_timings()->set_decode_us(number());
      done.mutable_timings()->set_prefill_tokens(number());
      done.set_session_tokens(number());
      done.set_seed(random());
      done.set_cumulative_logprob(-1e-3 * static_cast<double>(random()));
    }
  }
  return message;
}

// The mapping writes a float in more digits than it needs.
nlohmann::json Parse(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text).flatten();
  for (auto& value : json) {
    if (value.is_number_float()) value = value.get<float>();
  }
  return json;
}

// A field that the proto gains and the event lacks is found here: the mapping prints all fields.
TEST(GenerateJson, IsTheMessageInProtosMapping) {
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    const v1::GenerateResponse message = RandomMessage(random);
    EXPECT_EQ(Parse(ToJson(FromProto(message))), Parse(ToJson(message)));
  }
}

}  // namespace
}  // namespace based
