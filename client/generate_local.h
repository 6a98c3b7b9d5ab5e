// Completions of the engine in this process.
#ifndef BASED_CLIENT_GENERATE_LOCAL_H_
#define BASED_CLIENT_GENERATE_LOCAL_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/generate_event.h"
#include "client/generate_options.h"
#include "client/local.h"
#include "engine/request.h"

namespace based {

// INVALID_ARGUMENT for what only options can say wrongly; UNIMPLEMENTED names an option that the
// engine does not serve. The rest is Engine::Submit's to check.
absl::StatusOr<Request> ToRequest(const GenerateOptions& options, bool has_tokenizer);

// Loads --model and generates with it; see Generator.
absl::Status GenerateHere(const BackendFactory& new_backend, const GenerateOptions& options,
                          const std::function<void(GenerateEvent)>& on_event);

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_LOCAL_H_
