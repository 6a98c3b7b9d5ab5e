// All tensors of a checkpoint directory under their normalised names: one model.safetensors, or the
// shards that model.safetensors.index.json lists.
#ifndef BASED_ENGINE_TENSOR_TABLE_H_
#define BASED_ENGINE_TENSOR_TABLE_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/safetensors.h"

namespace based {

struct TableEntry {
  std::string file;  // path, for messages
  std::string name;  // as the file has it
  Tensor tensor;
};

struct TensorTable {
  std::vector<SafetensorsFile> files;  // keep the mappings that `entries` point into
  std::map<std::string, TableEntry, std::less<>> entries;  // by normalised name
};

inline constexpr std::string_view kEmbeddingName = "transformer.embeddings.word_embeddings.weight";

// Without a leading "model."; both names of the tied table become kEmbeddingName. "" for what is no
// weight and is dropped: *metrics*, *.decay.*, *inv_freq.
std::string NormalisedName(std::string_view name);

// NOT_FOUND when the directory holds no safetensors (naming what it looked for), INVALID_ARGUMENT
// for a bad file or index, an index entry outside the directory, one name given twice, or tied
// tables that differ.
absl::StatusOr<TensorTable> OpenTensors(const std::string& model_dir);

}  // namespace based

#endif  // BASED_ENGINE_TENSOR_TABLE_H_
