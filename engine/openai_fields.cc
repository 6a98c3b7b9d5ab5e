#include "engine/openai_fields.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/json_file.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr uint8_t kC = static_cast<uint8_t>(OpenAiEndpoint::kCompletions);
constexpr uint8_t kH = static_cast<uint8_t>(OpenAiEndpoint::kChat);
constexpr uint8_t kT = static_cast<uint8_t>(OpenAiEndpoint::kTokenize);
constexpr uint8_t kD = static_cast<uint8_t>(OpenAiEndpoint::kDetokenize);

// A field with `neutral` values is refused with any other; they ask for nothing.
struct Field {
  absl::string_view name;
  uint8_t endpoints;
  bool served = true;
  absl::string_view neutral = "";  // JSON values, a line each
};

// What no endpoint lists is ignored, and named in a header of the answer.
constexpr Field kFields[] = {
    {"model", kC | kH | kT | kD},
    {"prompt", kC | kT},
    {"messages", kH | kT},
    {"add_generation_prompt", kH | kT},
    {"chat_template_kwargs", kH | kT},
    {"max_tokens", kC | kH},
    {"max_completion_tokens", kH},
    {"temperature", kC | kH},
    {"top_p", kC | kH},
    {"n", kC | kH},
    {"best_of", kC},
    {"stream", kC | kH},
    {"stream_options", kC | kH},
    {"logprobs", kC | kH},
    {"top_logprobs", kH},
    {"echo", kC},
    {"stop", kC | kH},
    {"presence_penalty", kC | kH},
    {"frequency_penalty", kC | kH},
    {"logit_bias", kC | kH},
    {"seed", kC | kH},
    {"user", kC | kH},
    // Extensions that vLLM's clients know.
    {"top_k", kC | kH},
    {"min_p", kC | kH},
    {"typical_p", kC | kH},
    {"repetition_penalty", kC | kH},
    {"min_tokens", kC | kH},
    {"ignore_eos", kC | kH},
    {"stop_token_ids", kC | kH},
    {"include_stop_str_in_output", kC | kH},
    {"allowed_token_ids", kC | kH},
    {"bad_words", kC | kH},
    {"return_token_ids", kC | kH},
    {"priority", kC | kH},
    // What the text must look like: see openai_constraint.h.
    {"response_format", kC | kH},
    {"structured_outputs", kC | kH},
    {"guided_json", kC | kH},
    {"guided_regex", kC | kH},
    {"guided_choice", kC | kH},
    {"guided_grammar", kC | kH},
    {"tokens", kD},
    {"skip_special_tokens", kD},
    {"add_special_tokens", kT, false, "true\nfalse"},  // nothing is ever added
    // Not served.
    {"suffix", kC, false, "\"\""},
    {"echo", kH, false, "false"},
    {"skip_special_tokens", kC | kH, false, "true"},
    {"tools", kH | kT, false, "[]"},
    {"tool_choice", kH, false, "\"none\"\n\"auto\""},
    {"functions", kH, false, "[]"},
    {"function_call", kH, false, "\"none\"\n\"auto\""},
    {"chat_template", kH | kT, false},
    {"continue_final_message", kH | kT, false, "false"},
    {"documents", kH, false, "[]"},
    {"modalities", kH, false, "[\"text\"]"},
    {"audio", kH, false},
    {"web_search_options", kH, false},
    {"use_beam_search", kC | kH, false, "false"},
    {"prompt_logprobs", kC | kH, false},
};

// The members that are known of the objects in fields that are served; where all are of the
// client's making, or others are refused, the object is not here.
struct Members {
  std::vector<std::string> path;
  std::vector<absl::string_view> known;
};

const std::vector<Members>& KnownMembers() {
  static const auto* members = new std::vector<Members>{
      {{"stream_options"}, {"include_usage"}},
      {{"response_format"}, {"type", "json_schema"}},
      {{"response_format", "json_schema"}, {"name", "description", "schema", "strict"}},
  };
  return *members;
}

void ListUnknownMembers(const Json& body, std::vector<std::string>& ignored) {
  for (const Members& members : KnownMembers()) {
    const Json* object = &body;
    for (const std::string& name : members.path) {
      const auto found = object->is_object() ? object->find(name) : object->end();
      if (found == object->end()) {
        object = nullptr;
        break;
      }
      object = &*found;
    }
    if (object == nullptr || !object->is_object()) continue;
    for (const auto& [name, value] : object->items()) {
      const auto known = std::find(members.known.begin(), members.known.end(), name);
      if (known == members.known.end() && !value.is_null()) {
        ignored.push_back(absl::StrCat(absl::StrJoin(members.path, "."), ".", name));
      }
    }
  }
}

const Field* FindField(absl::string_view name, OpenAiEndpoint endpoint) {
  for (const Field& field : kFields) {
    if (field.name == name && (field.endpoints & static_cast<uint8_t>(endpoint)) != 0) {
      return &field;
    }
  }
  return nullptr;
}

bool AsksForNothing(const Field& field, const Json& value) {
  for (absl::string_view text : absl::StrSplit(field.neutral, '\n', absl::SkipEmpty())) {
    if (value == Json::parse(text.begin(), text.end())) return true;
  }
  return false;
}

}  // namespace

bool IsOpenAiField(absl::string_view name, OpenAiEndpoint endpoint) {
  return FindField(name, endpoint) != nullptr;
}

absl::Status CheckOpenAiFields(const Json& body, OpenAiEndpoint endpoint,
                               std::vector<std::string>& ignored) {
  for (const auto& [name, value] : body.items()) {
    if (value.is_null()) continue;
    const Field* field = FindField(name, endpoint);
    if (field == nullptr) {
      ignored.push_back(name);
    } else if (!field->served && !AsksForNothing(*field, value)) {
      return absl::UnimplementedError(
          absl::StrCat(name, " is ", JsonExcerpt(value),
                       "; this daemon does not serve it, leave the field out"));
    }
  }
  ListUnknownMembers(body, ignored);
  return absl::OkStatus();
}

bool JsonToInt32(const Json& value, int32_t& target) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) {
    return false;
  }
  const int64_t number = value.get<int64_t>();
  if (number < std::numeric_limits<int32_t>::min() ||
      number > std::numeric_limits<int32_t>::max()) {
    return false;
  }
  target = static_cast<int32_t>(number);
  return true;
}

const Json* OpenAiFields::Find(const std::string& name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void OpenAiFields::Read(const std::string& name, float& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Wrong(name, *value, "a number");
  target = value->get<float>();
}

void OpenAiFields::Read(const std::string& name, int32_t& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!JsonToInt32(*value, target)) Wrong(name, *value, "an integer of 32 bits");
}

void OpenAiFields::Read(const std::string& name, int64_t& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  const bool fits =
      value->is_number_integer() &&
      (!value->is_number_unsigned() ||
       value->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!fits) return Wrong(name, *value, "an integer");
  target = value->get<int64_t>();
}

void OpenAiFields::Read(const std::string& name, bool& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Wrong(name, *value, "true or false");
  target = value->get<bool>();
}

void OpenAiFields::Read(const std::string& name, std::string& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Wrong(name, *value, "a string");
  target = value->get<std::string>();
}

void OpenAiFields::Read(const std::string& name, std::vector<int32_t>& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Wrong(name, *value, "an array of token ids");
  target.resize(value->size());
  for (size_t i = 0; i < value->size(); ++i) {
    if (!JsonToInt32((*value)[i], target[i])) {
      return Wrong(absl::StrCat(name, "[", i, "]"), (*value)[i], "a token id");
    }
  }
}

void OpenAiFields::ReadTexts(const std::string& name, std::vector<std::string>& target) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    target = {value->get<std::string>()};
    return;
  }
  if (!value->is_array()) return Wrong(name, *value, "a string or an array of strings");
  target.clear();
  for (size_t i = 0; i < value->size(); ++i) {
    if (!(*value)[i].is_string()) {
      return Wrong(absl::StrCat(name, "[", i, "]"), (*value)[i], "a string");
    }
    target.push_back((*value)[i].get<std::string>());
  }
}

void OpenAiFields::Wrong(const std::string& place, const Json& value, absl::string_view expected) {
  Fail(absl::InvalidArgumentError(
      absl::StrCat(place, " is ", JsonExcerpt(value), "; expected ", expected)));
}

void OpenAiFields::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

}  // namespace based
