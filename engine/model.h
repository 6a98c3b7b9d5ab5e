// A loaded model: configuration, mapped weights, compiled executable, tokenizer.
#ifndef BASED_ENGINE_MODEL_H_
#define BASED_ENGINE_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "engine/tokenizer.h"
#include "kernels/backend.h"

namespace based {

struct Model {
  std::string name;  // as clients name it
  ModelConfig config;
  Checkpoint checkpoint;   // keeps the weights mapped while `executable` reads them
  CompileOptions compile;  // limits of one step
  std::unique_ptr<Executable> executable;
  std::unique_ptr<Tokenizer> tokenizer;  // null: token ids only
  double read_seconds = 0;               // for reading and checking the weights
  double compile_seconds = 0;            // for bringing them to the device in its layout

  // REQUIRES of members' order: executable is destroyed before checkpoint.
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() { executable.reset(); }
};

struct ModelOptions {
  std::string model_dir{};      // or "synthetic:NAME", see synthetic_model.h
  std::string tokenizer_dir{};  // empty: model_dir if it holds a tokenizer, else none
  std::string name{};           // empty: last component of model_dir
  CompileOptions compile{};
};

// As clients name it: `name`, or the last component of `model_dir`, whatever bytes it has.
std::string ModelName(const ModelOptions& options);

// NOT_FOUND, INVALID_ARGUMENT (bad file: the message gives file, place and reason) or the backend's
// errors. A tokenizer with more ids than config.vocab_size is INVALID_ARGUMENT.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const ModelOptions& options, Backend& backend);

}  // namespace based

#endif  // BASED_ENGINE_MODEL_H_
