#include "server/openai_tokenizer.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/openai_fields.h"
#include "engine/openai_request.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/openai_json.h"

namespace based {
namespace {

// What both check: the fields, of which `needed` must be there, the model's name, and that it has a
// tokenizer.
absl::Status Check(const nlohmann::json& body, OpenAiEndpoint endpoint, const Model& model,
                   const std::string& needed, absl::string_view expected,
                   std::vector<std::string>& ignored) {
  BASED_RETURN_IF_ERROR(CheckOpenAiFields(body, endpoint, ignored));
  OpenAiFields fields(body);
  std::string name;
  fields.Read("model", name);
  BASED_RETURN_IF_ERROR(fields.status());
  BASED_RETURN_IF_ERROR(CheckModelName(name, model.name));
  if (model.tokenizer == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("model '", model.name,
                     "' has no tokenizer; use token ids, or start the daemon with --tokenizer"));
  }
  if (fields.Find(needed) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(needed, " is not set; expected ", expected));
}

}  // namespace

absl::StatusOr<std::string> TokenizeJson(std::string_view body, const Engine& engine,
                                         const ServedChatTemplate& chat_template,
                                         std::vector<std::string>& ignored) {
  BASED_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseBody(body));
  OpenAiFields fields(parsed);
  const bool is_chat = fields.Find("messages") != nullptr;
  BASED_RETURN_IF_ERROR(Check(parsed, OpenAiEndpoint::kTokenize, engine.model(),
                              is_chat ? "messages" : "prompt", "a string, or messages", ignored));
  std::string prompt;
  fields.Read("prompt", prompt);
  BASED_RETURN_IF_ERROR(fields.status());
  if (is_chat) {
    if (fields.Find("prompt") != nullptr) {
      return absl::InvalidArgumentError("messages and prompt are set; expected one of them");
    }
    BASED_ASSIGN_OR_RETURN(const ChatAsk chat, ReadChatAsk(parsed));
    BASED_ASSIGN_OR_RETURN(prompt, ChatPrompt(chat, chat_template));
  }
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, engine.model().tokenizer->Encode(prompt));
  return absl::StrCat("{\"count\":", ids.size(),
                      ",\"max_model_len\":", engine.capacity().max_prompt_tokens, ",\"tokens\":[",
                      absl::StrJoin(ids, ","), "]}");
}

absl::StatusOr<std::string> DetokenizeJson(std::string_view body, const Engine& engine,
                                           std::vector<std::string>& ignored) {
  const Model& model = engine.model();
  BASED_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseBody(body));
  BASED_RETURN_IF_ERROR(Check(parsed, OpenAiEndpoint::kDetokenize, model, "tokens",
                              "an array of token ids", ignored));
  OpenAiFields fields(parsed);
  std::vector<int32_t> ids;
  bool skip_special = false;
  fields.Read("tokens", ids);
  fields.Read("skip_special_tokens", skip_special);
  BASED_RETURN_IF_ERROR(fields.status());
  Utf8Stream utf8;
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= model.config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", ids[i],
                                                     "; expected a token id in [0, ",
                                                     model.config.vocab_size, ")"));
    }
    text += utf8.Push(model.tokenizer->Bytes(ids[i], skip_special));
  }
  text += utf8.Finish();
  return absl::StrCat("{\"prompt\":", JsonString(text), "}");
}

}  // namespace based
