// Lines of a batch's input as requests, and what is refused.
#include "client/batch_line.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto line = ParseBatchLine(text, "in.jsonl:7");
  return line.ok() ? "" : std::string(line.status().message());
}

TEST(BatchLine, ReadsACompletion) {
  const auto line = ParseBatchLine(
      R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"hi",
          "max_tokens":9,"temperature":0,"top_p":0.5,"n":2,"best_of":3,"seed":-1,"stop":["x","y"],
          "logit_bias":{"5":-2},"presence_penalty":1,"top_k":4,"ignore_eos":true,"user":"u"}})",
      "in.jsonl:1");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->custom_id, "a");
  EXPECT_EQ(line->form, BatchForm::kCompletion);
  EXPECT_EQ(line->facts.sequences, 3);
  EXPECT_EQ(line->facts.model, "m");
  const v1::GenerateRequest& request = line->request;
  EXPECT_EQ(request.model(), "m");
  EXPECT_EQ(request.text(), "hi");
  EXPECT_EQ(request.stop().max_tokens(), 9);
  EXPECT_THAT(request.stop().strings(), ElementsAre("x", "y"));
  EXPECT_TRUE(request.stop().ignore_eos());
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_EQ(request.sampling().temperature(), 0);
  EXPECT_EQ(request.sampling().top_p(), 0.5f);
  EXPECT_EQ(request.sampling().seed(), ~uint64_t{0});
  EXPECT_EQ(request.sampling().logit_bias().at(5), -2);
  EXPECT_EQ(request.sampling().top_k(), 4);
  EXPECT_FALSE(request.sampling().has_min_p());
  EXPECT_EQ(request.n(), 2);
}

TEST(BatchLine, DefaultsAreThoseOfTheForm) {
  const auto completion =
      ParseBatchLine(R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":[1,2]}})", "f:1");
  ASSERT_TRUE(completion.ok()) << completion.status();
  EXPECT_EQ(completion->request.stop().max_tokens(), 16);
  EXPECT_THAT(completion->request.token_ids().ids(), ElementsAre(1, 2));
  const auto plain = ParseBatchLine(R"({"prompt":["only one"]})", "f:1");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->request.stop().max_tokens(), 256);
  EXPECT_EQ(plain->request.text(), "only one");
  EXPECT_EQ(plain->form, BatchForm::kPlain);
}

// The daemon renders it, and knows where a reply ends.
TEST(BatchLine, AChatStaysOne) {
  const auto line = ParseBatchLine(
      R"({"custom_id":"a","url":"/v1/chat/completions","body":{"max_completion_tokens":3,
          "stop":"END","messages":[{"role":"developer","content":"Be brief."},
          {"role":"user","content":[{"type":"text","text":"Hi"},{"type":"text","text":"!"}]}]}})",
      "f:1");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->form, BatchForm::kChat);
  const v1::GenerateRequest& request = line->request;
  EXPECT_EQ(request.chat().messages(), R"([{"content":"Be brief.","role":"developer"},)"
                                       R"({"content":"Hi!","role":"user"}])");
  EXPECT_FALSE(request.chat().has_add_generation_prompt());
  EXPECT_EQ(request.chat().chat_template_kwargs(), "");
  EXPECT_EQ(request.stop().max_tokens(), 3);
  EXPECT_THAT(request.stop().strings(), ElementsAre("END"));
  EXPECT_EQ(line->names.max_tokens, "max_completion_tokens");
  const auto more = ParseBatchLine(
      R"({"custom_id":"a","url":"/v1/chat/completions","body":{"add_generation_prompt":false,
          "chat_template_kwargs":{"x":1},"messages":[{"role":"user","content":"a"}]}})",
      "f:1");
  ASSERT_TRUE(more.ok()) << more.status();
  EXPECT_TRUE(more->request.chat().has_add_generation_prompt());
  EXPECT_FALSE(more->request.chat().add_generation_prompt());
  EXPECT_EQ(more->request.chat().chat_template_kwargs(), "{\"x\":1}");
}

// As over HTTP, and beside it what a batch does not serve.
TEST(BatchLine, ErrorsNameThePlaceAndTheField) {
  const struct {
    const char* text;
    const char* fault;
  } cases[] = {
      {"{\"prompt\":", "in.jsonl:7: not JSON"},
      {"[1]", "expected an object"},
      {"{\"prompt\":\"\xff\"}", "in.jsonl:7: not UTF-8 at byte 11"},
      {R"({"prompt":"a","prompt":"b"})", "twice"},
      {R"({})", "prompt is not set"},
      {R"({"prompt":["a","b"]})", "in.jsonl:7: prompt is an array of 2 prompts; expected one"},
      {R"({"prompt":"a","max_tokens":"9"})", "in.jsonl:7: max_tokens is \"9\""},
      {R"({"prompt":"a","stream":true})", "stream is true"},
      {R"({"prompt":"a","stream_options":{"include_usage":true}})", "stream_options is"},
      {R"({"prompt":"a","logprobs":3})", "in.jsonl:7: logprobs is set"},
      {R"({"prompt":"a","suffix":"s"})", "in.jsonl:7: suffix is \"s\""},
      {R"({"url":"/v1/completions","body":{"prompt":"a"}})", "custom_id is missing"},
      {R"({"custom_id":"a","url":"/v1/embeddings","body":{}})", "url is \"/v1/embeddings\""},
      {R"({"custom_id":"a","url":"/v1/completions"})", "body is missing"},
      {R"({"custom_id":"a","method":"GET","url":"/v1/completions","body":{}})", "method is"},
      {R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":7}})", "prompt is 7"},
      {R"({"custom_id":"a","url":"/v1/chat/completions","body":{"messages":[7]}})",
       "messages[0] is 7"},
      {R"({"custom_id":"a","url":"/v1/chat/completions",
           "body":{"logprobs":true,"messages":[{"role":"user","content":""}]}})",
       "logprobs is set"},
  };
  for (const auto& bad : cases) EXPECT_THAT(ErrorOf(bad.text), HasSubstr(bad.fault)) << bad.text;
}

TEST(BatchLine, FieldsThatAskForNothingAreNotRefused) {
  EXPECT_EQ(ErrorOf(R"({"prompt":"a","stream":false,"logprobs":null,"tools":[],"suffix":"",
                        "response_format":{"type":"text"},"metadata":{"k":1}})"),
            "");
}

TEST(BatchLine, TokenIdsAndEchoAreAskedFor) {
  const auto line = ParseBatchLine(R"({"prompt":"a","return_token_ids":true,"echo":true})", "f:1");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_TRUE(line->request.output().token_ids());
  EXPECT_TRUE(line->request.output().echo());
  EXPECT_EQ(line->return_token_ids, true);
  EXPECT_FALSE(ParseBatchLine(R"({"prompt":"a"})", "f:1")->request.output().has_token_ids());
}

TEST(BatchLine, StructuredOutputBecomesAConstraint) {
  const auto constraint = [](const std::string& fields) {
    const auto line = ParseBatchLine(absl::StrCat(R"({"custom_id":"a","url":"/v1/chat/completions",
        "body":{"messages":[{"role":"user","content":"x"}],)",
                                                  fields, "}}"),
                                     "f:1");
    EXPECT_TRUE(line.ok()) << line.status();
    return line.ok() ? line->request.constraint() : v1::Constraint();
  };
  // A schema's keys keep their order.
  EXPECT_EQ(constraint(R"("response_format":{"type":"json_schema","json_schema":{"name":"n",
                          "schema":{"type":"object","properties":{"z":{},"a":{}}}}})")
                .json_schema(),
            R"({"type":"object","properties":{"z":{},"a":{}}})");
  EXPECT_EQ(constraint(R"("guided_regex":"[ab]+")").regex(), "[ab]+");
  EXPECT_EQ(constraint(R"("structured_outputs":{"grammar":"root ::= \"a\""})").grammar(),
            "root ::= \"a\"");
  EXPECT_TRUE(constraint(R"("guided_choice":[])").has_choice());
  EXPECT_THAT(constraint(R"("guided_choice":["yes","no"])").choice().values(),
              ElementsAre("yes", "no"));
  EXPECT_EQ(ErrorOf(R"({"prompt":"a","response_format":{"type":"yaml"}})")
                .find("in.jsonl:7: response_format.type is"),
            0u);
}

}  // namespace
}  // namespace based
