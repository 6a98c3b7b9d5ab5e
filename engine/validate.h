// Checks of a request against the model and the limits, once, before it reaches the scheduler.
#ifndef BASED_ENGINE_VALIDATE_H_
#define BASED_ENGINE_VALIDATE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/draw_rules.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace based {

// INVALID_ARGUMENT naming the proto field, its value and what was expected; FAILED_PRECONDITION
// when text is given or asked for and the model has no tokenizer. `slots` is the size of the pool.
absl::Status ValidateRequest(const Request& request, const Model& model,
                             const EngineOptions& limits, int32_t slots);

// Of output.tokens_per_message where it is set; to the engine 0 means that it is not.
absl::Status CheckTokensPerMessage(int32_t tokens);

// UNIMPLEMENTED naming the first field that the backend would ignore.
absl::Status CheckBackend(const Request& request, const ExecutableInfo& info);

// What the request's draws are to follow beyond SampleParams; null when that is nothing. Words
// become ids, alone and with a space before. `constraint` is what the request's asks for, or null.
// INVALID_ARGUMENT naming the fields that leave no token for the first draw.
// REQUIRES: ValidateRequest is OK.
absl::StatusOr<std::shared_ptr<const RuleSpec>> MakeRules(
    const Request& request, const Model& model, std::shared_ptr<const Constraint> constraint);

// The prompt's ids: tokenized, or checked to lie in [0, vocab_size); bos for an empty prompt.
absl::StatusOr<std::vector<int32_t>> PromptTokens(const Request& request, const Model& model,
                                                  const EngineOptions& limits);

// INVALID_ARGUMENT naming the first of the request's continuations that is empty, holds an id
// outside [0, vocab_size), whose text is longer than limits.max_prompt_tokens or whose other fields
// are not as Continuation has them.
absl::Status CheckContinuations(const Request& request, const Model& model,
                                const EngineOptions& limits, int64_t prompt_tokens);

}  // namespace based

#endif  // BASED_ENGINE_VALIDATE_H_
