// Commands that run the engine in this process. They know the engine and nothing of the proto.
#ifndef BASED_CLIENT_LOCAL_H_
#define BASED_CLIENT_LOCAL_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/command.h"
#include "client/perplexity_command.h"
#include "engine/model.h"
#include "kernels/backend.h"

namespace based {

// Makes the backend that --backend, --threads and --device name; main knows which there are.
using BackendFactory = std::function<absl::StatusOr<std::unique_ptr<Backend>>(
    const std::string& kind, int32_t threads, int32_t device)>;

// A model and the backend that it runs on.
struct LocalModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;  // destroyed first
};

// Loads --model (required) with --tokenizer on --backend.
absl::StatusOr<LocalModel> LoadLocalModel(const BackendFactory& new_backend,
                                          const CompileOptions& compile);

// Scores with --model, whole windows in one step.
absl::StatusOr<std::unique_ptr<TextScorer>> ScoreHere(const BackendFactory& new_backend,
                                                      int32_t window);
Command VerifyCommand(BackendFactory new_backend);
// Tokenizes with the files of --tokenizer.
absl::Status TokenizeHere(const std::string& text);
absl::Status DetokenizeHere(const std::vector<int32_t>& ids);

}  // namespace based

#endif  // BASED_CLIENT_LOCAL_H_
