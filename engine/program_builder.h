// Builds the Program of a BASED model from its configuration and tensors, checking every shape.
#ifndef BASED_ENGINE_PROGRAM_BUILDER_H_
#define BASED_ENGINE_PROGRAM_BUILDER_H_

#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "engine/tensor_table.h"
#include "kernels/program.h"

namespace based {

// Weights are named as NormalisedName says and keep pointing into `table`. Every tensor of the
// table must be used: one that is not means a model that this Program would compute wrongly.
// INVALID_ARGUMENT names file, tensor and reason; a mixer whose tensors are those of another class
// names the layer and both.
absl::StatusOr<Program> BuildProgram(const ModelConfig& config, const TensorTable& table);

}  // namespace based

#endif  // BASED_ENGINE_PROGRAM_BUILDER_H_
