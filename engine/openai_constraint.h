// What the text must look like, as OpenAI's and vLLM's fields ask for it.
#ifndef BASED_ENGINE_OPENAI_CONSTRAINT_H_
#define BASED_ENGINE_OPENAI_CONSTRAINT_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "nlohmann/json.hpp"

namespace based {

// One of response_format, structured_outputs, guided_json, guided_regex, guided_choice and
// guided_grammar; `raw` is the text of `body`, from which schemas keep the order of their keys.
// INVALID_ARGUMENT names the field that is ill-formed, and two that are set together.
absl::StatusOr<ConstraintAsk> ReadOpenAiConstraint(const nlohmann::json& body,
                                                   std::string_view raw);

// Whether it is one of the fields that ReadOpenAiConstraint reads.
bool IsOpenAiConstraintField(std::string_view name);

}  // namespace based

#endif  // BASED_ENGINE_OPENAI_CONSTRAINT_H_
