// Checks of a request against the model and the limits, once, before it reaches the scheduler.
#ifndef BASED_ENGINE_VALIDATE_H_
#define BASED_ENGINE_VALIDATE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace based {

// INVALID_ARGUMENT naming the proto field, its value and what was expected; FAILED_PRECONDITION
// when text is given or asked for and the model has no tokenizer.
absl::Status ValidateRequest(const Request& request, const Model& model,
                             const EngineOptions& limits);

// The prompt's ids: tokenized, or checked to lie in [0, vocab_size); bos for an empty prompt.
absl::StatusOr<std::vector<int32_t>> PromptTokens(const Request& request, const Model& model,
                                                  const EngineOptions& limits);

}  // namespace based

#endif  // BASED_ENGINE_VALIDATE_H_
