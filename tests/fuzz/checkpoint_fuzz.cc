// A whole model: config.json, a NUL byte, model.safetensors. Either a Program that passes the
// checks of every backend, its weights inside the file, or INVALID_ARGUMENT.
#include <string>
#include <string_view>
#include <utility>

#include "engine/model_config.h"
#include "engine/program_builder.h"
#include "engine/safetensors.h"
#include "engine/tensor_table.h"
#include "engine/weight_scan.h"
#include "kernels/base/check.h"
#include "kernels/program_check.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

// Checks how the input was refused; the fuzz target's return value.
int Refused(const absl::Status& status) {
  BASED_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  BASED_CHECK(!status.message().empty());
  return 0;
}

// Two names that become one weight are OpenTensors' to refuse; the first is taken here.
TensorTable MakeTable(SafetensorsFile file) {
  TensorTable table;
  for (const auto& [name, tensor] : file.tensors()) {
    const std::string normalised = NormalisedName(name);
    if (normalised.empty()) continue;
    table.entries.emplace(normalised,
                          TableEntry{.file = file.path(), .name = name, .tensor = tensor});
  }
  table.files.push_back(std::move(file));
  return table;
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  FuzzInput input(data, size);
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(input.TakeUntil('\0'), "config");
  if (!config.ok()) return Refused(config.status());
  const std::string_view text = input.Rest();
  const auto bytes =
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Parse(bytes, "model");
  if (!file.ok()) return Refused(file.status());
  const TensorTable table = MakeTable(*std::move(file));
  const absl::StatusOr<Program> program = BuildProgram(*config, table);
  if (!program.ok()) return Refused(program.status());
  const absl::Status sound = CheckProgram(*program);
  if (!sound.ok()) return Refused(sound);
  BASED_CHECK(EmbedRows(*program) >= config->vocab_size);
  const WeightScan scan = ScanWeights(program->weights, "");
  BASED_CHECK(scan.weight < static_cast<int64_t>(program->weights.size()));
  return 0;
}
