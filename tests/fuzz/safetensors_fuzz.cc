// safetensors: any bytes are a file whose tensors cover its data once, or INVALID_ARGUMENT. The
// input is read at an even and at an odd address, so that alignment is ours and not the caller's
// luck.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/base/check.h"

namespace based {
namespace {

// Sums a tensor as numbers of its element's size: reads every byte, and as the backends do.
template <typename Element>
Element SumAs(const Tensor& tensor) {
  const auto* elements = reinterpret_cast<const Element*>(tensor.bytes.data());
  Element sum = 0;
  for (size_t i = 0; i < tensor.bytes.size() / sizeof(Element); ++i) {
    sum = static_cast<Element>(sum + elements[i]);
  }
  return sum;
}

uint64_t Sum(const Tensor& tensor) {
  switch (ElementBytes(tensor.dtype)) {
    case 1:
      return SumAs<uint8_t>(tensor);
    case 2:
      return SumAs<uint16_t>(tensor);
    case 4:
      return SumAs<uint32_t>(tensor);
    default:
      return SumAs<uint64_t>(tensor);
  }
}

void CheckTensor(const Tensor& tensor) {
  const int64_t element = ElementBytes(tensor.dtype);
  BASED_CHECK(element > 0);
  int64_t bytes = element;
  for (const int64_t dim : tensor.shape) {
    BASED_CHECK(dim >= 0);
    bytes *= dim;
  }
  BASED_CHECK(static_cast<size_t>(bytes) == tensor.bytes.size());
  BASED_CHECK(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % static_cast<size_t>(element) == 0);
}

// A digest of what was read; 0 when it was refused.
uint64_t Read(const std::byte* data, size_t size) {
  const absl::StatusOr<SafetensorsFile> file =
      SafetensorsFile::Parse(absl::MakeConstSpan(data, size), "m");
  if (!file.ok()) {
    BASED_CHECK(file.status().code() == absl::StatusCode::kInvalidArgument);
    BASED_CHECK(file.status().message().substr(0, 3) == "m: ");
    return 0;
  }
  uint64_t digest = 1;
  for (const auto& [name, tensor] : file->tensors()) {
    CheckTensor(tensor);
    digest = digest * 31 + Sum(tensor) + name.size();
  }
  return digest;
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint64_t> memory(size / sizeof(uint64_t) + 2);
  auto* bytes = reinterpret_cast<std::byte*>(memory.data());
  if (size > 0) std::memcpy(bytes, data, size);
  const uint64_t even = based::Read(bytes, size);
  std::memmove(bytes + 1, bytes, size);
  BASED_CHECK(based::Read(bytes + 1, size) == even);
  return 0;
}
