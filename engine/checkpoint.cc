#include "engine/checkpoint.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/program_builder.h"
#include "engine/tensor_table.h"
#include "engine/weight_scan.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// Everything of the configuration that changes what the model computes.
std::string ConfigSummary(const ModelConfig& config) {
  std::string summary = absl::StrCat(
      "d_model ", config.d_model, " vocab ", config.vocab_size, " ", config.padded_vocab_size,
      " norm_eps ", config.norm_eps, " conv_bias ", config.conv_bias, " linear ",
      config.linear_heads, " ", config.feature_dim, " ", config.linear_eps, " window ",
      config.window_heads, " ", config.window_size, " ", config.rope_base, " layers");
  for (Mixer mixer : config.layers) absl::StrAppend(&summary, " ", MixerName(mixer));
  return summary;
}

}  // namespace

absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& model_dir, const ModelConfig& config) {
  BASED_ASSIGN_OR_RETURN(TensorTable table, OpenTensors(model_dir));
  if (table.files.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(model_dir, ": the index names no tensors"));
  }
  Checkpoint checkpoint;
  BASED_ASSIGN_OR_RETURN(checkpoint.program, BuildProgram(config, table));
  const WeightScan scan = ScanWeights(checkpoint.program.weights, ConfigSummary(config));
  if (scan.weight >= 0) {
    const TableEntry& entry = table.entries.at(checkpoint.program.weights[scan.weight].name);
    return absl::InvalidArgumentError(
        absl::StrCat(entry.file, ": tensor '", entry.name, "': element ", scan.element, " is ",
                     scan.nan ? "NaN" : "infinite", ", expected a finite number"));
  }
  checkpoint.digest = scan.digest;
  for (const WeightView& weight : checkpoint.program.weights) {
    checkpoint.parameters += weight.rows * weight.cols;
  }
  checkpoint.files = std::move(table.files);
  return checkpoint;
}

}  // namespace based
