// Reader and writer of the safetensors format: 8 bytes of header length (little-endian), a JSON
// header naming dtype, shape and byte range of every tensor, then the data.
//
// Reading is over a read-only mapping and every offset is checked before use: a truncated,
// overlapping or lying file is an error, never a crash. (A file cut short by another process while
// it is mapped is beyond any reader's help: replace files by rename, as WriteSafetensors does.)
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
  std::string dtype;  // "F32", "F16", "BF16", "I32", "I64", ...
  std::vector<int64_t> shape;
  // Row-major, little-endian; aligned to the element size. Inside the mapping, or in a copy where
  // the file's own header leaves the data unaligned.
  absl::Span<const std::byte> bytes;
};

// Bytes of one element of a safetensors dtype; 0 for a name that the format does not know.
int64_t ElementBytes(std::string_view dtype);

// "[64, 3]", for messages.
std::string ShapeString(absl::Span<const int64_t> shape);

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
  std::vector<std::shared_ptr<const std::byte[]>> aligned_copies_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

struct OutputTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  absl::Span<const std::byte> bytes;
};

// Writes a file atomically (temporary name, fsync, rename). Data is laid out so that every tensor
// is aligned. INVALID_ARGUMENT for an unknown dtype, a name given twice or bytes that do not fit
// the shape; UNAVAILABLE with the system's reason when the file cannot be written.
absl::Status WriteSafetensors(const std::string& path, const std::vector<OutputTensor>& tensors);

}  // namespace based

#endif  // BASED_ENGINE_SAFETENSORS_H_
