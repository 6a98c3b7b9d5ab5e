// Reader of the safetensors format over a read-only mapping. Every offset is checked before use: a
// truncated, overlapping or lying file is an error, never a crash.
#ifndef BASED_ENGINE_SAFETENSORS_H_
#define BASED_ENGINE_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace based {

struct Tensor {
  std::string dtype;            // "F32", "F16", "BF16", "I32", "I64", ...
  std::vector<int64_t> shape;
  absl::Span<const std::byte> bytes;  // inside the mapping, aligned as the file has it
};

class SafetensorsFile {
 public:
  // Maps the file. NOT_FOUND, or INVALID_ARGUMENT with path, tensor and reason.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);
  // Parses bytes already in memory, which must outlive the object (tests, fuzzing).
  static absl::StatusOr<SafetensorsFile> Parse(absl::Span<const std::byte> bytes, std::string path);

  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::shared_ptr<const void> mapping_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

struct OutputTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  absl::Span<const std::byte> bytes;
};

// Writes a file atomically (temporary name, then rename).
absl::Status WriteSafetensors(const std::string& path, const std::vector<OutputTensor>& tensors);

}  // namespace based

#endif  // BASED_ENGINE_SAFETENSORS_H_
