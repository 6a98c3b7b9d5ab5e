#include "client/plan_model.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "engine/program_builder.h"
#include "engine/synthetic_model.h"
#include "engine/tensor_table.h"
#include "kernels/base/status.h"

namespace based {
namespace {

absl::Status Turn(const PlanDials& dials, ModelConfig& config) {
  if (dials.window_size) {
    if (*dials.window_size < 0 || *dials.window_size > kMaxWindowSize) {
      return UsageError(
          absl::StrCat("--window is ", *dials.window_size, "; expected 0 to ", kMaxWindowSize));
    }
    config.window_size = *dials.window_size;
  }
  if (dials.feature_dim) {
    if (*dials.feature_dim < 1 || *dials.feature_dim > kMaxFeatureDim) {
      return UsageError(absl::StrCat("--feature_dim is ", *dials.feature_dim, "; expected 1 to ",
                                     kMaxFeatureDim));
    }
    config.feature_dim = *dials.feature_dim;
  }
  return absl::OkStatus();
}

// The checkpoint's tensors with q and k as wide as the dial wants.
absl::StatusOr<Program> ProgramOfFiles(const std::string& dir, const ModelConfig& config) {
  absl::StatusOr<TensorTable> table = OpenTensors(dir);
  if (absl::IsNotFound(table.status())) {
    BASED_ASSIGN_OR_RETURN(const Checkpoint checkpoint, SyntheticCheckpoint(dir, config));
    return checkpoint.program;
  }
  BASED_RETURN_IF_ERROR(table.status());
  for (auto& [name, entry] : table->entries) {
    const absl::string_view suffix(name);
    if (!absl::EndsWith(suffix, "proj_q.weight") && !absl::EndsWith(suffix, "proj_k.weight")) {
      continue;
    }
    if (!entry.tensor.shape.empty()) {
      entry.tensor.shape[0] = int64_t{config.linear_heads} * config.feature_dim;
    }
  }
  BASED_ASSIGN_OR_RETURN(Program program, BuildProgram(config, *table));
  for (WeightView& weight : program.weights) weight.data = nullptr;
  return program;
}

}  // namespace

absl::StatusOr<PlanModel> LoadPlanModel(const std::string& model, const PlanDials& dials) {
  PlanModel plan{.name = model};
  if (IsSynthetic(model)) {
    BASED_ASSIGN_OR_RETURN(plan.config, SyntheticConfig(model));
    BASED_RETURN_IF_ERROR(Turn(dials, plan.config));
    BASED_ASSIGN_OR_RETURN(const Checkpoint checkpoint, SyntheticCheckpoint(model, plan.config));
    plan.program = checkpoint.program;
  } else {
    BASED_ASSIGN_OR_RETURN(plan.config, LoadModelConfig(absl::StrCat(model, "/config.json")));
    BASED_RETURN_IF_ERROR(Turn(dials, plan.config));
    BASED_ASSIGN_OR_RETURN(plan.program, ProgramOfFiles(model, plan.config));
  }
  for (const WeightView& weight : plan.program.weights) {
    plan.parameters += weight.rows * weight.cols;
  }
  return plan;
}

}  // namespace based
