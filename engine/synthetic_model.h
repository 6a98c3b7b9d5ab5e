// Models of the published shapes without their weights: `--model synthetic:based-1b` lets speed and
// capacity be tried before a checkpoint is at hand. The backend makes random weights on the device
// (WeightView in kernels/program.h); the text is noise.
#ifndef BASED_ENGINE_SYNTHETIC_MODEL_H_
#define BASED_ENGINE_SYNTHETIC_MODEL_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"

namespace based {

// True when `model_dir` asks for a synthetic model rather than a directory.
bool IsSynthetic(std::string_view model_dir);

// Configuration of "synthetic:based-360m" or "synthetic:based-1b". INVALID_ARGUMENT names the known
// ones otherwise.
absl::StatusOr<ModelConfig> SyntheticConfig(const std::string& model_dir);

// Program of that configuration with bf16 weights that the backend makes.
absl::StatusOr<Checkpoint> SyntheticCheckpoint(const std::string& model_dir,
                                               const ModelConfig& config);

}  // namespace based

#endif  // BASED_ENGINE_SYNTHETIC_MODEL_H_
