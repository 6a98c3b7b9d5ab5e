#include "client/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/safetensors.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// Copies one tensor of the type T; `rank` dimensions.
template <typename T>
absl::StatusOr<std::vector<T>> Read(const SafetensorsFile& file, const std::string& name,
                                    const std::string& dtype, size_t rank,
                                    std::vector<int64_t>& shape) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": no tensor '", name, "'"));
  }
  const Tensor& tensor = found->second;
  if (tensor.dtype != dtype || tensor.shape.size() != rank) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": tensor '", name, "' is ", tensor.dtype, " [",
        absl::StrJoin(tensor.shape, ", "), "]; expected ", dtype, " of ", rank, " dimensions"));
  }
  shape = tensor.shape;
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(T));
  return values;
}

absl::Status CheckShape(const SafetensorsFile& file, const std::string& name,
                        const std::vector<int64_t>& shape, const std::vector<int64_t>& expected) {
  if (shape == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": tensor '", name, "' is [", absl::StrJoin(shape, ", "),
                   "]; expected [", absl::StrJoin(expected, ", "), "]"));
}

}  // namespace

absl::StatusOr<Golden> ReadGolden(const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  Golden golden;
  std::vector<int64_t> inputs, logits, prompt, greedy, margin;
  BASED_ASSIGN_OR_RETURN(golden.input_ids, Read<int32_t>(file, "input_ids", "I32", 2, inputs));
  BASED_ASSIGN_OR_RETURN(golden.logits, Read<float>(file, "logits", "F32", 3, logits));
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt_length,
                         Read<int32_t>(file, "prompt_len", "I32", 1, prompt));
  BASED_ASSIGN_OR_RETURN(golden.greedy_ids, Read<int32_t>(file, "greedy_ids", "I32", 2, greedy));
  BASED_ASSIGN_OR_RETURN(golden.greedy_margin,
                         Read<float>(file, "greedy_margin", "F32", 2, margin));
  golden.sequences = inputs[0];
  golden.length = inputs[1];
  golden.vocab = logits[2];
  golden.greedy_steps = greedy[1];
  BASED_RETURN_IF_ERROR(
      CheckShape(file, "logits", logits, {golden.sequences, golden.length, golden.vocab}));
  BASED_RETURN_IF_ERROR(CheckShape(file, "prompt_len", prompt, {1}));
  BASED_RETURN_IF_ERROR(
      CheckShape(file, "greedy_ids", greedy, {golden.sequences, golden.greedy_steps}));
  BASED_RETURN_IF_ERROR(CheckShape(file, "greedy_margin", margin, greedy));
  golden.prompt_length = prompt_length[0];
  if (golden.sequences < 1 || golden.prompt_length < 1 || golden.prompt_length > golden.length) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": prompt_len is ", golden.prompt_length,
                                                   "; expected 1 to ", golden.length));
  }
  for (const auto* ids : {&golden.input_ids, &golden.greedy_ids}) {
    for (int32_t id : *ids) {
      if (id < 0 || id >= golden.vocab) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": id ", id,
                                                       " is outside the vocabulary of ",
                                                       golden.vocab));
      }
    }
  }
  return golden;
}

double WorseError(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

void LogitsError::Add(absl::Span<const double> logits, absl::Span<const float> golden) {
  BASED_CHECK(logits.size() == golden.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double difference = logits[i] - static_cast<double>(golden[i]);
    squared_difference += difference * difference;
    squared_golden += static_cast<double>(golden[i]) * static_cast<double>(golden[i]);
    max_abs = WorseError(max_abs, std::abs(difference));
  }
}

void LogitsError::Add(const LogitsError& other) {
  squared_difference += other.squared_difference;
  squared_golden += other.squared_golden;
  max_abs = WorseError(max_abs, other.max_abs);
}

double LogitsError::Relative() const { return std::sqrt(squared_difference / squared_golden); }

}  // namespace based
