// The bodies of /tokenize and /detokenize, in vLLM's form.
#ifndef BASED_SERVER_OPENAI_TOKENIZER_H_
#define BASED_SERVER_OPENAI_TOKENIZER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/engine.h"

namespace based {

// {"prompt": "text"} or {"messages": [..]}, which ChatPrompt reads, gives
// {"count":..,"max_model_len":..,"tokens":[..]}. Nothing is prepended.
// FAILED_PRECONDITION where the model has no tokenizer, INVALID_ARGUMENT where the field is
// missing. Names of fields that mean nothing here come back in `ignored`.
absl::StatusOr<std::string> TokenizeJson(std::string_view body, const Engine& engine,
                                         const ServedChatTemplate& chat_template,
                                         std::vector<std::string>& ignored);

// {"tokens": [..]} gives {"prompt":".."}. Special tokens are told unless skip_special_tokens. The
// errors and `ignored` as above.
absl::StatusOr<std::string> DetokenizeJson(std::string_view body, const Engine& engine,
                                           std::vector<std::string>& ignored);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_TOKENIZER_H_
