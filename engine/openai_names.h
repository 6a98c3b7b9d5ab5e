// Messages of the engine and of based.v1, which name fields as the proto does, in the words of the
// OpenAI request that they answer. The one mapping of every way in.
#ifndef BASED_ENGINE_OPENAI_NAMES_H_
#define BASED_ENGINE_OPENAI_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/openai_fields.h"

namespace based {

// Which of its names for a thing a request has used.
struct OpenAiNames {
  OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions;
  std::string max_tokens = "max_tokens";  // or "max_completion_tokens"
  std::string constraint = "";            // as ConstraintAsk::field; empty: none
  bool prompts = false;                   // prompt is an array of prompts
  bool one_stop = false;                  // stop is a string, not an array
  bool one_bad_word = false;              // likewise bad_words
};

// `status` with fields named so; code and payloads stay. `prompt` is which of the prompts it is
// about, from 0.
absl::Status InOpenAiNames(const absl::Status& status, const OpenAiNames& names,
                           int32_t prompt = 0);

}  // namespace based

#endif  // BASED_ENGINE_OPENAI_NAMES_H_
