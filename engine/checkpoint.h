// A published checkpoint on disk turned into a Program: model.safetensors (or shards listed in
// model.safetensors.index.json), names normalised, every tensor's shape and dtype checked against
// the configuration, every weight checked to be finite. FORMAT.md says what is read.
#ifndef BASED_ENGINE_CHECKPOINT_H_
#define BASED_ENGINE_CHECKPOINT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "kernels/program.h"

namespace based {

struct Checkpoint {
  std::vector<SafetensorsFile> files;  // keep the mapping that program.weights points into
  Program program;
  int64_t parameters = 0;  // the tied table counted once
  // Hex; equal for equal weights and configuration, whatever the file layout, the tensors' prefix
  // or which of the tied names is there.
  std::string digest;
};

// Strips a leading "model."; drops *metrics*, *.decay.* and *inv_freq; takes either tied name and
// refuses two that differ; takes head dims, MLP and convolution widths from tensor shapes. Any
// other tensor that the configured model does not use is refused. Errors are INVALID_ARGUMENT or
// NOT_FOUND naming file, tensor and reason.
absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& model_dir, const ModelConfig& config);

}  // namespace based

#endif  // BASED_ENGINE_CHECKPOINT_H_
