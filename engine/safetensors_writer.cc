// WriteSafetensors: the writing half of safetensors.h.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/safetensors.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

// Ordered by element size, largest first, so that an aligned start keeps every tensor aligned; then
// by name, so that equal content gives equal files.
std::vector<const OutputTensor*> FileOrder(const std::vector<OutputTensor>& tensors) {
  std::vector<const OutputTensor*> order;
  for (const OutputTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const OutputTensor* a, const OutputTensor* b) {
    const int64_t a_bytes = ElementBytes(a->dtype);
    const int64_t b_bytes = ElementBytes(b->dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->name < b->name;
  });
  return order;
}

absl::Status CheckTensor(const OutputTensor& tensor) {
  const auto error = [&tensor](absl::string_view reason) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", tensor.name, "': ", reason));
  };
  int64_t bytes = ElementBytes(tensor.dtype);
  if (bytes == 0) return error(absl::StrCat("unknown dtype '", tensor.dtype, "'"));
  for (int64_t dim : tensor.shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, dim, &bytes)) {
      return error(absl::StrCat("impossible shape ", ShapeString(tensor.shape)));
    }
  }
  if (bytes != static_cast<int64_t>(tensor.bytes.size())) {
    return error(absl::StrCat(tensor.bytes.size(), " bytes given, ", tensor.dtype, " ",
                              ShapeString(tensor.shape), " needs ", bytes));
  }
  return absl::OkStatus();
}

// Header length and header, padded with spaces so that the data starts at a multiple of 8.
absl::StatusOr<std::string> Header(const std::vector<const OutputTensor*>& order) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  header["__metadata__"] = {{"format", "pt"}};  // what readers of the format look for
  size_t offset = 0;
  for (const OutputTensor* tensor : order) {
    if (header.contains(tensor->name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", tensor->name, "': name taken twice"));
    }
    header[tensor->name] = {{"dtype", tensor->dtype},
                            {"shape", tensor->shape},
                            {"data_offsets", {offset, offset + tensor->bytes.size()}}};
    offset += tensor->bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string result(sizeof(length), '\0');
  std::memcpy(result.data(), &length, sizeof(length));
  return result + text;
}

absl::Status SystemError(const std::string& path, absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(path, ": ", what, ": ", std::strerror(errno)));
}

absl::Status WriteAll(int descriptor, const std::string& path, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(descriptor, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(path, "write");
    at += written;
    size -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status WriteContent(int descriptor, const std::string& path, const std::string& header,
                          const std::vector<const OutputTensor*>& order) {
  BASED_RETURN_IF_ERROR(WriteAll(descriptor, path, header.data(), header.size()));
  for (const OutputTensor* tensor : order) {
    BASED_RETURN_IF_ERROR(WriteAll(descriptor, path, tensor->bytes.data(), tensor->bytes.size()));
  }
  if (fsync(descriptor) != 0) return SystemError(path, "fsync");
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::vector<OutputTensor>& tensors) {
  for (const OutputTensor& tensor : tensors) BASED_RETURN_IF_ERROR(CheckTensor(tensor));
  const std::vector<const OutputTensor*> order = FileOrder(tensors);
  BASED_ASSIGN_OR_RETURN(const std::string header, Header(order));

  static std::atomic<uint64_t> counter = 0;
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid(), ".", counter++);
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return SystemError(temporary, "open");
  absl::Status status = WriteContent(descriptor, temporary, header, order);
  if (close(descriptor) != 0 && status.ok()) status = SystemError(temporary, "close");
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = SystemError(path, "rename");
  }
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

}  // namespace based
