#include "engine/tensor_table.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kPickleFile[] = "pytorch_model.bin";
constexpr int kIndexDepth = 8;
constexpr size_t kMaxShards = 4096;

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string_view WithoutPrefix(std::string_view name) {
  constexpr std::string_view kPrefix = "model.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

bool IsTable(std::string_view name) { return name == kEmbeddingName || name == "lm_head.weight"; }

// Both tied names may be there; they must then hold the same bytes.
absl::Status Insert(TensorTable& table, const std::string& file, const std::string& name,
                    const Tensor& tensor) {
  const std::string normalised = NormalisedName(name);
  if (normalised.empty()) return absl::OkStatus();
  const auto [at, inserted] =
      table.entries.emplace(normalised, TableEntry{.file = file, .name = name, .tensor = tensor});
  if (inserted) return absl::OkStatus();
  const TableEntry& other = at->second;
  const std::string_view plain = WithoutPrefix(name);
  if (!IsTable(plain) || plain == WithoutPrefix(other.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": tensors '", other.name, "' and '", name, "' are the same weight"));
  }
  const bool equal =
      tensor.dtype == other.tensor.dtype && tensor.shape == other.tensor.shape &&
      std::memcmp(tensor.bytes.data(), other.tensor.bytes.data(), tensor.bytes.size()) == 0;
  if (equal) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": tensors '", other.name, "' and '", name,
                   "' differ, expected one table (tie_word_embeddings)"));
}

absl::StatusOr<TensorTable> OpenSingle(const std::string& path) {
  TensorTable table;
  BASED_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
  for (const auto& [name, tensor] : file.tensors()) {
    BASED_RETURN_IF_ERROR(Insert(table, path, name, tensor));
  }
  table.files.push_back(std::move(file));
  return table;
}

// A shard lies beside its index: a plain file name, so that no index can reach elsewhere.
absl::Status CheckShardName(const std::string& index, const std::string& tensor,
                            const Json& value) {
  const bool plain = value.is_string() && !value.get_ref<const std::string&>().empty() &&
                     value.get_ref<const std::string&>().find('/') == std::string::npos &&
                     value.get_ref<const std::string&>().find('\0') == std::string::npos &&
                     value != "." && value != "..";
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(index, ": weight_map['", tensor, "'] is ", JsonExcerpt(value),
                   ", expected the name of a file in the same directory"));
}

absl::StatusOr<TensorTable> OpenSharded(const std::string& model_dir, const std::string& index) {
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(index, kMaxJsonBytes));
  BASED_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, index, kIndexDepth));
  const auto weight_map = json.find("weight_map");
  if (weight_map == json.end() || !weight_map->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, ": weight_map is missing, expected an object of tensor and file"));
  }
  TensorTable table;
  std::map<std::string, size_t> opened;  // file name to index in table.files
  for (const auto& [name, value] : weight_map->items()) {
    BASED_RETURN_IF_ERROR(CheckShardName(index, name, value));
    const std::string& shard = value.get_ref<const std::string&>();
    const std::string path = absl::StrCat(model_dir, "/", shard);
    const auto [at, fresh] = opened.emplace(shard, table.files.size());
    if (opened.size() > kMaxShards) {
      return absl::InvalidArgumentError(
          absl::StrCat(index, ": names more than ", kMaxShards, " files"));
    }
    if (fresh) {
      BASED_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
      table.files.push_back(std::move(file));
    }
    const auto& tensors = table.files[at->second].tensors();
    const auto tensor = tensors.find(name);
    if (tensor == tensors.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor '", name, "' is missing, though ", kIndexFile, " names it"));
    }
    BASED_RETURN_IF_ERROR(Insert(table, path, name, tensor->second));
  }
  return table;
}

}  // namespace

std::string NormalisedName(std::string_view name) {
  name = WithoutPrefix(name);
  if (name.find("metrics") != name.npos || name.find(".decay.") != name.npos ||
      name.ends_with("inv_freq")) {
    return "";
  }
  return std::string(IsTable(name) ? kEmbeddingName : name);
}

absl::StatusOr<TensorTable> OpenTensors(const std::string& model_dir) {
  const std::string single = absl::StrCat(model_dir, "/", kSingleFile);
  if (Exists(single)) return OpenSingle(single);
  const std::string index = absl::StrCat(model_dir, "/", kIndexFile);
  if (Exists(index)) return OpenSharded(model_dir, index);
  const bool pickled = Exists(absl::StrCat(model_dir, "/", kPickleFile));
  return absl::NotFoundError(absl::StrCat(
      model_dir, ": neither ", kSingleFile, " nor ", kIndexFile, " is there",
      pickled ? "; convert pytorch_model.bin with models/import_checkpoint.py first" : ""));
}

}  // namespace based
