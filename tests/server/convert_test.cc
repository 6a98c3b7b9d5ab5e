// The conversion between wire and engine, and that no field of the request is ignored.
#include "server/convert.h"

#include <functional>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

v1::GenerateRequest WithPrompt() {
  v1::GenerateRequest request;
  request.set_text("hello");
  return request;
}

void SetScalar(Message* message, const FieldDescriptor* field) {
  const auto* reflection = message->GetReflection();
  const bool repeated = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return repeated ? reflection->AddInt32(message, field, 1)
                      : reflection->SetInt32(message, field, 1);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->SetInt64(message, field, 1);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->SetUInt64(message, field, 1);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->SetFloat(message, field, 0.5f);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->SetBool(message, field, true);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->SetEnumValue(message, field, 1);
    case FieldDescriptor::CPPTYPE_STRING:
      return repeated ? reflection->AddString(message, field, "x")
                      : reflection->SetString(message, field, "x");
    default:
      FAIL() << "type of " << field->full_name() << " is not handled by this test";
  }
}

// Calls `check(path, request)` once for every field that can be set below `type`, with only that
// field (and a prompt) set.
using Check = std::function<void(const std::string& path, const v1::GenerateRequest& request)>;

void ForEachField(const Descriptor* type, const std::string& path,
                  const std::function<Message*(v1::GenerateRequest*)>& get, const Check& check) {
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const std::string name = path + field->name();
    if (field->is_map()) {
      v1::GenerateRequest request = WithPrompt();
      (*request.mutable_sampling()->mutable_logit_bias())[1] = 1.0f;
      check(name, request);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ForEachField(
          field->message_type(), name + ".",
          [get, field](v1::GenerateRequest* request) {
            Message* parent = get(request);
            return parent->GetReflection()->MutableMessage(parent, field);
          },
          check);
    } else {
      v1::GenerateRequest request = WithPrompt();
      SetScalar(get(&request), field);
      check(name, request);
    }
  }
}

// Everything else in GenerateRequest must be refused by name.
const std::set<std::string>& Served() {
  static const std::set<std::string> served = {"model",
                                               "text",
                                               "token_ids.ids",
                                               "sampling.temperature",
                                               "sampling.top_k",
                                               "sampling.top_p",
                                               "sampling.min_p",
                                               "sampling.seed",
                                               "stop.max_tokens",
                                               "stop.strings",
                                               "stop.token_ids",
                                               "stop.ignore_eos",
                                               "output.text",
                                               "output.token_ids",
                                               "output.tokens_per_message",
                                               "sampling.typical_p",
                                               "sampling.repetition_penalty",
                                               "sampling.presence_penalty",
                                               "sampling.frequency_penalty",
                                               "sampling.logit_bias",
                                               "sampling.bad_words",
                                               "sampling.allowed_token_ids",
                                               "stop.min_tokens",
                                               "stop.include_stop",
                                               "output.logprobs",
                                               "output.top_logprobs",
                                               "output.echo",
                                               "output.prompt_logprobs",
                                               "output.delta_interval_ms",
                                               "n",
                                               "best_of",
                                               "priority",
                                               "tenant",
                                               "state.session",
                                               "state.create_session",
                                               "state.session_tokens",
                                               "constraint.json_schema",
                                               "constraint.json",
                                               "constraint.regex",
                                               "constraint.choice.values",
                                               "constraint.grammar",
                                               "chat.messages",
                                               "chat.add_generation_prompt",
                                               "chat.chat_template_kwargs"};
  return served;
}

TEST(RequestFromProto, EveryFieldIsServedOrRefusedByName) {
  std::set<std::string> seen;
  ForEachField(
      v1::GenerateRequest::descriptor(), "", [](v1::GenerateRequest* request) { return request; },
      [&](const std::string& path, const v1::GenerateRequest& message) {
        SCOPED_TRACE(path);
        v1::GenerateRequest sent = message;
        // The other fields of a session need its id.
        if (path.starts_with("state.")) sent.mutable_state()->set_session("x");
        // A chat needs messages, and its members are JSON.
        if (path.starts_with("chat.")) {
          sent.mutable_chat()->set_messages(R"([{"role":"user","content":"a"}])");
          if (sent.chat().chat_template_kwargs() == "x") {
            sent.mutable_chat()->set_chat_template_kwargs("{}");
          }
        }
        const absl::StatusOr<Request> request = RequestFromProto(sent, true);
        if (Served().count(path) > 0) {
          EXPECT_TRUE(request.ok()) << request.status();
          seen.insert(path);
        } else {
          EXPECT_EQ(request.status().code(), absl::StatusCode::kUnimplemented);
          // A field inside a message that is not served is refused with the outer name.
          const std::string named(
              request.status().message().substr(0, request.status().message().find(' ')));
          EXPECT_EQ(path.substr(0, named.size()), named);
        }
      });
  EXPECT_EQ(seen, Served());
}

TEST(RequestFromProto, SessionsAreCheckedAndCopied) {
  v1::GenerateRequest message;
  message.set_text("a");
  message.mutable_state()->set_create_session(true);
  EXPECT_EQ(RequestFromProto(message, true).status().message(),
            "state.session is not set; expected it with state.create_session");
  message.mutable_state()->set_session("a b");
  EXPECT_TRUE(absl::IsInvalidArgument(RequestFromProto(message, true).status()));
  message.mutable_state()->set_session("chat-1");
  message.mutable_state()->set_session_tokens(0);
  const absl::StatusOr<Request> request = RequestFromProto(message, true);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->session.id, "chat-1");
  EXPECT_TRUE(request->session.create);
  EXPECT_EQ(request->session.tokens, 0);
}

TEST(RequestFromProto, CopiesEveryServedField) {
  v1::GenerateRequest message;
  message.mutable_token_ids()->add_ids(5);
  message.mutable_sampling()->set_temperature(0.25f);
  message.mutable_sampling()->set_top_k(3);
  message.mutable_sampling()->set_top_p(0.5f);
  message.mutable_sampling()->set_min_p(0.125f);
  message.mutable_sampling()->set_seed(99);
  message.mutable_stop()->set_max_tokens(17);
  message.mutable_stop()->add_strings("end");
  message.mutable_stop()->add_token_ids(4);
  message.mutable_stop()->set_ignore_eos(true);
  message.mutable_output()->set_text(false);
  message.mutable_output()->set_token_ids(true);
  message.mutable_sampling()->set_typical_p(0.75f);
  message.mutable_sampling()->set_repetition_penalty(1.5f);
  message.mutable_sampling()->set_presence_penalty(0.25f);
  message.mutable_sampling()->set_frequency_penalty(-0.25f);
  (*message.mutable_sampling()->mutable_logit_bias())[6] = 2.0f;
  message.mutable_sampling()->add_bad_words("bad");
  message.mutable_sampling()->add_allowed_token_ids(8);
  message.mutable_stop()->set_min_tokens(2);
  message.mutable_stop()->set_include_stop(true);
  message.mutable_output()->set_logprobs(true);
  message.mutable_output()->set_top_logprobs(3);
  message.mutable_output()->set_echo(true);
  message.mutable_output()->set_prompt_logprobs(true);
  message.mutable_output()->set_tokens_per_message(5);
  message.mutable_output()->set_delta_interval_ms(20);
  message.set_n(2);
  message.set_best_of(3);
  const absl::StatusOr<Request> request = RequestFromProto(message, true);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->sampling.typical_p, 0.75f);
  EXPECT_EQ(request->sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request->sampling.presence_penalty, 0.25f);
  EXPECT_EQ(request->sampling.frequency_penalty, -0.25f);
  ASSERT_EQ(request->sampling.logit_bias.size(), 1u);
  EXPECT_EQ(request->sampling.logit_bias[0].id, 6);
  EXPECT_EQ(request->sampling.logit_bias[0].bias, 2.0f);
  EXPECT_THAT(request->sampling.bad_words, testing::ElementsAre("bad"));
  EXPECT_THAT(request->sampling.allowed_token_ids, testing::ElementsAre(8));
  EXPECT_EQ(request->stop.min_tokens, 2);
  EXPECT_TRUE(request->stop.include_stop);
  EXPECT_TRUE(request->output.logprobs);
  EXPECT_EQ(request->output.top_logprobs, 3);
  EXPECT_TRUE(request->output.echo);
  EXPECT_TRUE(request->output.prompt_logprobs);
  EXPECT_EQ(request->output.tokens_per_message, 5);
  EXPECT_EQ(request->output.delta_interval, std::chrono::milliseconds(20));
  EXPECT_EQ(request->n, 2);
  EXPECT_EQ(request->best_of, 3);
  EXPECT_FALSE(request->prompt_is_text);
  EXPECT_THAT(request->prompt_token_ids, testing::ElementsAre(5));
  EXPECT_EQ(request->sampling.temperature, 0.25f);
  EXPECT_EQ(request->sampling.top_k, 3);
  EXPECT_EQ(request->sampling.top_p, 0.5f);
  EXPECT_EQ(request->sampling.min_p, 0.125f);
  EXPECT_EQ(request->sampling.seed, 99u);
  EXPECT_EQ(request->stop.max_tokens, 17);
  EXPECT_THAT(request->stop.strings, testing::ElementsAre("end"));
  EXPECT_THAT(request->stop.token_ids, testing::ElementsAre(4));
  EXPECT_TRUE(request->stop.ignore_eos);
  EXPECT_FALSE(request->output.text);
  EXPECT_TRUE(request->output.token_ids);
}

TEST(RequestFromProto, AChatIsRendered) {
  v1::GenerateRequest message;
  message.mutable_chat()->set_messages(R"([{"role":"user","content":"a"}])");
  message.mutable_stop()->add_strings("x");
  const absl::StatusOr<Request> plain = RequestFromProto(message, true);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(plain->prompt_is_text);
  EXPECT_EQ(plain->prompt_text, "### User:\na\n\n### Assistant:\n");
  EXPECT_THAT(plain->stop.strings, testing::ElementsAre("x", "\n### "));
  const ChatFormat own = {.chat_template = ChatTemplate::Create(
                              "t", "{{ messages[0].content ~ mood ~ add_generation_prompt }}", {}),
                          .stop_ids = {9}};
  message.mutable_chat()->set_add_generation_prompt(false);
  message.mutable_chat()->set_chat_template_kwargs(R"({"mood":"!"})");
  const absl::StatusOr<Request> rendered = RequestFromProto(message, true, own);
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_EQ(rendered->prompt_text, "a!False");
  EXPECT_THAT(rendered->stop.strings, testing::ElementsAre("x"));
  EXPECT_THAT(rendered->stop.token_ids, testing::ElementsAre(9));
}

TEST(RequestFromProto, FaultsOfAChatAreNamed) {
  const struct {
    const char* messages;
    const char* kwargs;
    const char* fault;
  } cases[] = {
      {"", "", "chat.messages is not set"},
      {"[", "", "chat.messages byte 2: not JSON"},
      {R"([{"role":"user","role":"user"}])", "", "chat.messages has the name \"role\" twice"},
      {R"([{"role":"tool","content":""}])", "", "chat.messages[0].role is \"tool\""},
      {R"([{"role":"user","content":""}])", "[]", "chat.chat_template_kwargs is an array"},
  };
  for (const auto& bad : cases) {
    v1::GenerateRequest message;
    message.mutable_chat()->set_messages(bad.messages);
    message.mutable_chat()->set_chat_template_kwargs(bad.kwargs);
    const absl::Status status = RequestFromProto(message, true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(bad.fault));
  }
  v1::GenerateRequest message;
  message.mutable_chat()->set_messages(R"([{"role":"user","content":"a"}])");
  message.mutable_state()->set_session("s");
  EXPECT_THAT(std::string(RequestFromProto(message, true).status().message()),
              testing::StartsWith("chat is set beside state.session"));
}

TEST(RequestFromProto, UnsetFieldsMeanTheDocumentedDefaults) {
  const absl::StatusOr<Request> request = RequestFromProto(WithPrompt(), true);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->sampling.temperature, 1.0f);
  EXPECT_FALSE(request->sampling.seed.has_value());
  EXPECT_EQ(request->stop.max_tokens, 256);
  EXPECT_TRUE(request->output.text);
  EXPECT_FALSE(request->output.token_ids);
}

TEST(RequestFromProto, ZeroIsNotUnset) {
  v1::GenerateRequest message = WithPrompt();
  message.mutable_sampling()->set_temperature(0);
  message.mutable_stop()->set_max_tokens(0);
  const absl::StatusOr<Request> request = RequestFromProto(message, true);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->sampling.temperature, 0.0f);
  EXPECT_EQ(request->stop.max_tokens, 0);
}

TEST(RequestFromProto, WithoutATokenizerIdsAreTheDefaultOutput) {
  v1::GenerateRequest message;
  message.mutable_token_ids();
  const absl::StatusOr<Request> request = RequestFromProto(message, false);
  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->output.text);
  EXPECT_TRUE(request->output.token_ids);
}

TEST(RequestFromProto, ValuesOutOfRangeAreRefused) {
  v1::GenerateRequest message = WithPrompt();
  message.mutable_output()->set_tokens_per_message(0);
  EXPECT_EQ(RequestFromProto(message, true).status().code(), absl::StatusCode::kInvalidArgument);
  message = WithPrompt();
  message.set_priority(static_cast<v1::Priority>(9));
  EXPECT_EQ(RequestFromProto(message, true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RequestFromProto(v1::GenerateRequest(), true).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(RequestFromProto, TenantAndPriorityReachTheEngine) {
  v1::GenerateRequest message = WithPrompt();
  EXPECT_EQ(RequestFromProto(message, true)->priority, Priority::kInteractive);
  message.set_priority(v1::PRIORITY_BATCH);
  message.set_tenant("acme");
  const absl::StatusOr<Request> request = RequestFromProto(message, true);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->priority, Priority::kBatch);
  EXPECT_EQ(request->tenant, "acme");
}

TEST(StartedToProto, TellsThePredictedWait) {
  const Started started{.predicted_wait = std::chrono::milliseconds(250)};
  EXPECT_EQ(StartedToProto(started, "id").started().predicted_wait_ms(), 250);
}

TEST(FinishedToProto, NamesTheStopThatMatched) {
  Finished finished;
  finished.reason = FinishReason::kStopString;
  finished.stop_string = "end";
  finished.generated_tokens = 5;
  EXPECT_EQ(FinishedToProto(finished).done().stop_string(), "end");
  finished.reason = FinishReason::kStopToken;
  finished.stop_token_id = 0;
  const v1::GenerateResponse message = FinishedToProto(finished);
  EXPECT_EQ(message.done().stop_case(), v1::Done::kStopTokenId);
  EXPECT_EQ(message.done().usage().generated_tokens(), 5);
}

}  // namespace
}  // namespace based
