#include "client/batch_line.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json_fields.h"
#include "engine/openai_constraint.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr double kAnyNumber = std::numeric_limits<float>::max();
constexpr int64_t kCompletionMaxTokens = 16;  // OpenAI's default of /v1/completions

// Fields that change the answer and that a batch does not serve.
constexpr const char* kNotServed[] = {
    "stream_options", "logprobs", "top_logprobs", "suffix",     "tools",
    "functions",      "audio",    "modalities",   "prediction", "prompt_embeds"};

// Fields that mean something here, beside those above and those of ReadOpenAiConstraint.
constexpr const char* kServed[] = {"model",
                                   "prompt",
                                   "messages",
                                   "max_tokens",
                                   "max_completion_tokens",
                                   "temperature",
                                   "top_p",
                                   "n",
                                   "best_of",
                                   "echo",
                                   "stop",
                                   "stream",
                                   "seed",
                                   "presence_penalty",
                                   "frequency_penalty",
                                   "repetition_penalty",
                                   "logit_bias",
                                   "user",
                                   "top_k",
                                   "min_p",
                                   "typical_p",
                                   "min_tokens",
                                   "ignore_eos",
                                   "include_stop",
                                   "stop_token_ids",
                                   "allowed_token_ids",
                                   "bad_words"};

bool IsKnown(const std::string& field) {
  const auto names = [&](const char* name) { return field == name; };
  return std::any_of(std::begin(kServed), std::end(kServed), names) ||
         std::any_of(std::begin(kNotServed), std::end(kNotServed), names) ||
         IsOpenAiConstraintField(field);
}

v1::Constraint ToProto(const ConstraintAsk& ask) {
  v1::Constraint constraint;
  switch (ask.kind) {
    case ConstraintAsk::Kind::kNothing:
      break;
    case ConstraintAsk::Kind::kJsonSchema:
      constraint.set_json_schema(ask.text);
      break;
    case ConstraintAsk::Kind::kJson:
      constraint.set_json(true);
      break;
    case ConstraintAsk::Kind::kRegex:
      constraint.set_regex(ask.text);
      break;
    case ConstraintAsk::Kind::kChoice:
      // An empty list is there too, and refused by the daemon.
      constraint.mutable_choice()->mutable_values()->Assign(ask.choices.begin(), ask.choices.end());
      break;
    case ConstraintAsk::Kind::kGrammar:
      constraint.set_grammar(ask.text);
      break;
  }
  return constraint;
}

// `raw` is the text of `body`.
absl::Status ReadConstraint(const Json& body, absl::string_view raw, const std::string& place,
                            v1::GenerateRequest& request) {
  const absl::StatusOr<ConstraintAsk> ask =
      ReadOpenAiConstraint(body, std::string_view(raw.data(), raw.size()));
  if (!ask.ok()) {
    return absl::Status(ask.status().code(), absl::StrCat(place, ": ", ask.status().message()));
  }
  if (ask->kind == ConstraintAsk::Kind::kNothing) return absl::OkStatus();
  *request.mutable_constraint() = ToProto(*ask);
  return absl::OkStatus();
}

// Reads the fields of one body into a request. The ranges are the daemon's to judge: here a field
// only has to fit the proto.
class BodyReader {
 public:
  BodyReader(const Json& body, const std::string& place, const std::string& prefix)
      : fields_(body, place, prefix) {}

  absl::Status Read(BatchForm form, v1::GenerateRequest& request) {
    Refuse();
    request.set_model(fields_.StringOr("model", ""));
    if (form == BatchForm::kChat) {
      ReadMessages(request);
    } else {
      ReadPrompt(request);
    }
    ReadSampling(*request.mutable_sampling());
    ReadStop(form, *request.mutable_stop());
    if (Given("n")) request.set_n(fields_.IntOr("n", 0, kMaxInt, 1));
    if (Given("best_of")) request.set_best_of(fields_.IntOr("best_of", 0, kMaxInt, 1));
    if (Given("echo")) request.mutable_output()->set_echo(fields_.BoolOr("echo", false));
    return fields_.status();
  }

 private:
  bool Given(const std::string& field) const { return fields_.Find(field) != nullptr; }

  void Refuse() {
    if (fields_.BoolOr("stream", false)) fields_.Wrong("stream", true, "false in a batch");
    for (const char* field : kNotServed) {
      const Json* value = fields_.Find(field);
      const bool off =
          value == nullptr || *value == false || *value == 0 || *value == "" || value->empty();
      if (!off) fields_.Wrong(field, *value, "no such field: batches do not serve it");
    }
  }

  void ReadPrompt(v1::GenerateRequest& request) {
    const Json* prompt = fields_.Find("prompt");
    const char* expected = "a string, or an array of token ids";
    if (prompt == nullptr) return fields_.Missing("prompt", expected);
    if (prompt->is_array() && prompt->size() == 1 && (*prompt)[0].is_string()) {
      prompt = &(*prompt)[0];
    }
    if (prompt->is_string()) return request.set_text(prompt->get<std::string>());
    const bool all_ids =
        prompt->is_array() && std::all_of(prompt->begin(), prompt->end(), [](const Json& id) {
          return id.is_number_unsigned() && id.get<uint64_t>() <= uint64_t{kMaxInt};
        });
    if (!all_ids) return fields_.Wrong("prompt", *prompt, expected);
    auto& ids = *request.mutable_token_ids()->mutable_ids();
    for (const Json& id : *prompt) ids.Add(id.get<int32_t>());
  }

  // Null for a role that the template does not know.
  static const char* HeadingOf(const Json& message) {
    const auto role = message.find("role");
    if (role == message.end()) return nullptr;
    if (*role == "system" || *role == "developer") return "### System:\n";
    if (*role == "user") return "### User:\n";
    return *role == "assistant" ? "### Assistant:\n" : nullptr;
  }

  // A message's text: a string, or an array of parts of type text.
  static std::optional<std::string> ContentOf(const Json& message) {
    const auto content = message.find("content");
    if (content == message.end()) return std::nullopt;
    if (content->is_string()) return content->get<std::string>();
    if (!content->is_array()) return std::nullopt;
    std::string text;
    for (const Json& part : *content) {
      const auto piece = part.is_object() ? part.find("text") : part.end();
      if (!part.is_object() || piece == part.end() || !piece->is_string()) return std::nullopt;
      absl::StrAppend(&text, piece->get<std::string>());
    }
    return text;
  }

  void ReadMessages(v1::GenerateRequest& request) {
    const Json* messages = fields_.Find("messages");
    const char* expected = "messages of role system, user or assistant and content of text";
    if (messages == nullptr) return fields_.Missing("messages", expected);
    if (!messages->is_array() || messages->empty()) {
      return fields_.Wrong("messages", *messages, expected);
    }
    std::string prompt;
    for (const Json& message : *messages) {
      const char* heading = message.is_object() ? HeadingOf(message) : nullptr;
      const std::optional<std::string> content =
          heading != nullptr ? ContentOf(message) : std::optional<std::string>();
      if (!content) return fields_.Wrong("messages", message, expected);
      absl::StrAppend(&prompt, heading, *content, "\n\n");
    }
    request.set_text(prompt + "### Assistant:\n");
  }

  // As the proto's float; NaN cannot be written in JSON.
  float Number(const std::string& field) {
    return static_cast<float>(fields_.NumberOr(field, -kAnyNumber, kAnyNumber, 0));
  }
  int32_t Int(const std::string& field) { return fields_.IntOr(field, -kMaxInt, kMaxInt, 0); }

  void ReadSampling(v1::SamplingParams& sampling) {
    if (Given("temperature")) sampling.set_temperature(Number("temperature"));
    if (Given("top_k")) sampling.set_top_k(Int("top_k"));
    if (Given("top_p")) sampling.set_top_p(Number("top_p"));
    if (Given("min_p")) sampling.set_min_p(Number("min_p"));
    if (Given("typical_p")) sampling.set_typical_p(Number("typical_p"));
    if (Given("repetition_penalty")) sampling.set_repetition_penalty(Number("repetition_penalty"));
    if (Given("presence_penalty")) sampling.set_presence_penalty(Number("presence_penalty"));
    if (Given("frequency_penalty")) sampling.set_frequency_penalty(Number("frequency_penalty"));
    if (const Json* seed = fields_.Find("seed"); seed != nullptr) {
      if (seed->is_number_integer()) {
        sampling.set_seed(seed->get<uint64_t>());
      } else {
        fields_.Wrong("seed", *seed, "an integer");
      }
    }
    for (const int32_t id : fields_.IntsOr("allowed_token_ids", 0, kMaxInt)) {
      sampling.add_allowed_token_ids(id);
    }
    for (std::string& word : Strings("bad_words")) sampling.add_bad_words(std::move(word));
    ReadLogitBias(sampling);
  }

  void ReadLogitBias(v1::SamplingParams& sampling) {
    const Json* bias = fields_.Object("logit_bias");
    if (bias == nullptr) return;
    for (const auto& [name, value] : bias->items()) {
      int32_t id = 0;
      if (!absl::SimpleAtoi(name, &id) || !value.is_number()) {
        return fields_.Wrong("logit_bias", *bias, "token ids as names and numbers as values");
      }
      (*sampling.mutable_logit_bias())[id] = value.get<float>();
    }
  }

  // A string or an array of strings.
  std::vector<std::string> Strings(const std::string& field) {
    std::vector<std::string> strings;
    const Json* value = fields_.Find(field);
    if (value == nullptr) return strings;
    if (value->is_string()) return {value->get<std::string>()};
    const bool all_strings =
        value->is_array() && std::all_of(value->begin(), value->end(),
                                         [](const Json& entry) { return entry.is_string(); });
    if (all_strings) {
      for (const Json& entry : *value) strings.push_back(entry.get<std::string>());
    } else {
      fields_.Wrong(field, *value, "a string or an array of strings");
    }
    return strings;
  }

  void ReadStop(BatchForm form, v1::StopConditions& stop) {
    if (form == BatchForm::kCompletion) stop.set_max_tokens(kCompletionMaxTokens);
    for (const char* field : {"max_tokens", "max_completion_tokens"}) {
      if (Given(field)) stop.set_max_tokens(Int(field));
    }
    if (Given("min_tokens")) stop.set_min_tokens(Int("min_tokens"));
    if (Given("ignore_eos")) stop.set_ignore_eos(fields_.BoolOr("ignore_eos", false));
    if (Given("include_stop")) stop.set_include_stop(fields_.BoolOr("include_stop", false));
    for (const int32_t id : fields_.IntsOr("stop_token_ids", 0, kMaxInt)) stop.add_token_ids(id);
    for (std::string& text : Strings("stop")) stop.add_strings(std::move(text));
    if (form == BatchForm::kChat) stop.add_strings("\n### ");
  }

  JsonFields fields_;
};

}  // namespace

int32_t BatchLine::sequences() const {
  return std::max({int32_t{1}, request.n(), request.best_of()});
}

absl::StatusOr<BatchLine> ParseBatchLine(absl::string_view text, const std::string& place) {
  BASED_ASSIGN_OR_RETURN(BatchEnvelope envelope, ParseBatchEnvelope(text, place));
  BatchLine read{.form = envelope.form, .custom_id = std::move(envelope.custom_id)};
  const std::string prefix = read.form == BatchForm::kPlain ? "" : "body.";
  BASED_RETURN_IF_ERROR(BodyReader(envelope.body, place, prefix).Read(read.form, read.request));
  BASED_RETURN_IF_ERROR(ReadConstraint(envelope.body, envelope.raw, place, read.request));
  read.ignored = std::move(envelope.ignored);
  for (const auto& [name, value] : envelope.body.items()) {
    if (!value.is_null() && !IsKnown(name)) read.ignored.push_back(name);
  }
  return read;
}

}  // namespace based
