#include "engine/openai_names.h"

#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace based {
namespace {

std::string Rename(absl::string_view message, const OpenAiNames& names, int32_t prompt) {
  const bool chat = names.endpoint == OpenAiEndpoint::kChat;
  const std::string place = chat            ? "messages"
                            : names.prompts ? absl::StrCat("prompt[", prompt, "]")
                                            : "prompt";
  std::vector<std::pair<absl::string_view, absl::string_view>> pairs = {
      {"sampling.", ""},
      {"stop.max_tokens", names.max_tokens},
      {"stop.strings", "stop"},
      {"stop.min_tokens", "min_tokens"},
      {"stop.ignore_eos", "ignore_eos"},
      {"token_ids.ids", place},
      {"stop.token_ids", "stop_token_ids"},
      {"output.top_logprobs", chat ? "top_logprobs" : "logprobs"},
      {"output.prompt_logprobs", "echo"},
      {"output.", ""},
      {"chat.messages", "messages"},
      {"chat.add_generation_prompt", "add_generation_prompt"},
      {"chat.chat_template_kwargs", "chat_template_kwargs"},
  };
  if (names.one_stop) pairs.emplace_back("stop.strings[0]", "stop");
  if (names.one_bad_word) pairs.emplace_back("sampling.bad_words[0]", "bad_words");
  if (!names.constraint.empty()) {
    for (const char* field : {"constraint.json_schema", "constraint.json", "constraint.regex",
                              "constraint.choice", "constraint.grammar"}) {
      pairs.emplace_back(field, names.constraint);
    }
  }
  const std::string text = absl::StrReplaceAll(message, pairs);
  return absl::StartsWith(text, "text ") ? absl::StrCat(place, text.substr(4)) : text;
}

}  // namespace

absl::Status InOpenAiNames(const absl::Status& status, const OpenAiNames& names, int32_t prompt) {
  if (status.ok()) return status;
  absl::Status renamed(status.code(), Rename(status.message(), names, prompt));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { renamed.SetPayload(url, payload); });
  return renamed;
}

}  // namespace based
