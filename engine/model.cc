#include "engine/model.h"

#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/synthetic_model.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// Null where none was asked for and the model directory holds none.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const ModelOptions& options) {
  const bool asked = !options.tokenizer_dir.empty();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::Load(asked ? options.tokenizer_dir : options.model_dir);
  if (!asked && absl::IsNotFound(tokenizer.status())) return nullptr;
  return tokenizer;
}

}  // namespace

std::string ModelName(const ModelOptions& options) {
  if (!options.name.empty()) return options.name;
  std::filesystem::path path = std::filesystem::path(options.model_dir).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const ModelOptions& options, Backend& backend) {
  auto model = std::make_unique<Model>();
  model->name = ModelName(options);
  const bool synthetic = IsSynthetic(options.model_dir);
  BASED_ASSIGN_OR_RETURN(
      model->config, synthetic ? SyntheticConfig(options.model_dir)
                               : LoadModelConfig(absl::StrCat(options.model_dir, "/config.json")));
  BASED_ASSIGN_OR_RETURN(model->tokenizer, LoadTokenizer(options));
  if (model->tokenizer != nullptr && model->tokenizer->size() > model->config.vocab_size) {
    const std::string& dir =
        options.tokenizer_dir.empty() ? options.model_dir : options.tokenizer_dir;
    return absl::InvalidArgumentError(
        absl::StrCat(dir, ": the tokenizer has ", model->tokenizer->size(),
                     " ids, expected at most the model's vocab_size = ", model->config.vocab_size));
  }
  const auto begin = std::chrono::steady_clock::now();
  BASED_ASSIGN_OR_RETURN(model->checkpoint,
                         synthetic ? SyntheticCheckpoint(options.model_dir, model->config)
                                   : LoadCheckpoint(options.model_dir, model->config));
  model->compile = options.compile;
  const auto read = std::chrono::steady_clock::now();
  BASED_ASSIGN_OR_RETURN(model->executable,
                         backend.Compile(model->checkpoint.program, options.compile));
  model->read_seconds = std::chrono::duration<double>(read - begin).count();
  model->compile_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - read).count();
  return model;
}

}  // namespace based
