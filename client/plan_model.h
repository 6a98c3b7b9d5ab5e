// The model that capacity is planned for, without its weights' values: shapes alone.
#ifndef BASED_CLIENT_PLAN_MODEL_H_
#define BASED_CLIENT_PLAN_MODEL_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "kernels/backend.h"

namespace based {

// What is changed of the model: the dials between recall and memory.
struct PlanDials {
  std::optional<int32_t> window_size;
  std::optional<int32_t> feature_dim;
};

struct PlanModel {
  std::string name;
  ModelConfig config;
  Program program;  // weights without data
  int64_t parameters = 0;
};

// `model` is a checkpoint's directory, of which config.json alone will do (shapes are then those of
// the published models), or "synthetic:NAME". Usage errors name the dial; others are those of
// model_config.h and tensor_table.h.
absl::StatusOr<PlanModel> LoadPlanModel(const std::string& model, const PlanDials& dials);

}  // namespace based

#endif  // BASED_CLIENT_PLAN_MODEL_H_
