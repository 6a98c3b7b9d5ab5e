#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor data is used as it lies");

using Json = nlohmann::json;
constexpr int64_t kLengthBytes = 8;

absl::Status FileError(const std::string& path, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", reason));
}

absl::Status TensorError(const std::string& path, absl::string_view tensor,
                         absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor '", tensor, "': ", reason));
}

// Bytes of a tensor, or nothing where the product does not fit 63 bits.
std::optional<int64_t> TensorBytes(absl::Span<const int64_t> shape, int64_t element_bytes) {
  int64_t total = element_bytes;
  for (int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(total, dim, &total)) return std::nullopt;
  }
  return total;
}

// A non-negative integer below 2^63.
std::optional<int64_t> ReadSize(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const uint64_t size = value.get<uint64_t>();
  if (size > uint64_t{INT64_MAX}) return std::nullopt;
  return static_cast<int64_t>(size);
}

struct Entry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // from the start of the data
  int64_t end = 0;
};

absl::StatusOr<std::vector<int64_t>> ReadSizes(const std::string& path, const std::string& tensor,
                                               const Json& entry, const char* field) {
  const auto found = entry.find(field);
  if (found == entry.end()) return TensorError(path, tensor, absl::StrCat(field, " is missing"));
  if (!found->is_array()) {
    return TensorError(path, tensor,
                       absl::StrCat(field, " is ", JsonExcerpt(*found), ", expected an array"));
  }
  std::vector<int64_t> sizes;
  for (const Json& item : *found) {
    const std::optional<int64_t> size = ReadSize(item);
    if (!size) {
      return TensorError(
          path, tensor,
          absl::StrCat(field, " holds ", JsonExcerpt(item), ", expected an integer in [0, 2^63)"));
    }
    sizes.push_back(*size);
  }
  return sizes;
}

// One header entry, checked on its own: known dtype, range inside the data, range as long as the
// shape says.
absl::StatusOr<Entry> ReadEntry(const std::string& path, const std::string& name, const Json& json,
                                int64_t data_bytes) {
  if (!json.is_object()) {
    return TensorError(path, name,
                       absl::StrCat("entry is ", JsonExcerpt(json), ", expected an object"));
  }
  Entry entry{.name = name, .dtype = "", .shape = {}, .begin = 0, .end = 0};
  const auto dtype = json.find("dtype");
  if (dtype == json.end()) return TensorError(path, name, "dtype is missing");
  if (!dtype->is_string() || ElementBytes(dtype->get_ref<const std::string&>()) == 0) {
    return TensorError(path, name, absl::StrCat("unknown dtype ", JsonExcerpt(*dtype)));
  }
  entry.dtype = dtype->get<std::string>();
  BASED_ASSIGN_OR_RETURN(entry.shape, ReadSizes(path, name, json, "shape"));
  BASED_ASSIGN_OR_RETURN(const std::vector<int64_t> range,
                         ReadSizes(path, name, json, "data_offsets"));
  if (range.size() != 2) {
    return TensorError(
        path, name,
        absl::StrCat("data_offsets holds ", range.size(), " numbers, expected begin and end"));
  }
  entry.begin = range[0];
  entry.end = range[1];
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return TensorError(path, name,
                       absl::StrCat("data_offsets [", entry.begin, ", ", entry.end,
                                    ") lie outside the ", data_bytes, " bytes of data"));
  }
  const std::optional<int64_t> expected = TensorBytes(entry.shape, ElementBytes(entry.dtype));
  if (!expected || *expected != entry.end - entry.begin) {
    return TensorError(path, name,
                       absl::StrCat("data_offsets hold ", entry.end - entry.begin, " bytes, but ",
                                    entry.dtype, " ", ShapeString(entry.shape), " needs ",
                                    expected ? absl::StrCat(*expected) : "more than 2^63"));
  }
  return entry;
}

// The data must be covered once and entirely: an overlap or a hole means that an offset lies.
absl::Status CheckCoverage(const std::string& path, std::vector<Entry>& entries,
                           int64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    if (entry.begin < covered) {
      return TensorError(path, entry.name,
                         absl::StrCat("its data overlaps that of tensor '", previous->name, "'"));
    }
    if (entry.begin > covered) {
      return TensorError(
          path, entry.name,
          absl::StrCat(entry.begin - covered, " bytes before its data belong to no tensor"));
    }
    covered = entry.end;
    previous = &entry;
  }
  if (covered != data_bytes) {
    return FileError(path, absl::StrCat("the last ", data_bytes - covered,
                                        " bytes of data belong to no tensor"));
  }
  return absl::OkStatus();
}

// The header's text; also tells a truncated file from one that is something else.
absl::StatusOr<std::string_view> HeaderText(absl::Span<const std::byte> bytes,
                                            const std::string& path) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size < kLengthBytes) {
    return FileError(path, absl::StrCat("truncated: ", size, " bytes, shorter than any header"));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > uint64_t{kMaxJsonBytes}) {
    return FileError(path, absl::StrCat("not a safetensors file: header length ", length,
                                        ", at most ", kMaxJsonBytes, " expected"));
  }
  if (static_cast<int64_t>(length) > size - kLengthBytes) {
    return FileError(path,
                     absl::StrCat("truncated: header of ", length, " bytes in a file of ", size));
  }
  return std::string_view(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
}

}  // namespace

int64_t ElementBytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int64_t> kSizes[] = {
      {"F32", 4}, {"BF16", 2}, {"F16", 2},  {"F64", 8},     {"I64", 8},
      {"I32", 4}, {"I16", 2},  {"I8", 1},   {"U64", 8},     {"U32", 4},
      {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
  };
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

std::string ShapeString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(absl::Span<const std::byte> bytes,
                                                       std::string path) {
  BASED_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(bytes, path));
  // Header, entry, array: nothing in the format nests deeper.
  BASED_ASSIGN_OR_RETURN(const Json header, ParseJsonObject(text, path, /*max_depth=*/3));
  const absl::Span<const std::byte> data =
      bytes.subspan(static_cast<size_t>(kLengthBytes) + text.size());
  const int64_t data_bytes = static_cast<int64_t>(data.size());
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    BASED_ASSIGN_OR_RETURN(Entry entry, ReadEntry(path, name, json, data_bytes));
    entries.push_back(std::move(entry));
  }
  BASED_RETURN_IF_ERROR(CheckCoverage(path, entries, data_bytes));

  SafetensorsFile file;
  file.path_ = std::move(path);
  for (Entry& entry : entries) {
    const size_t length = static_cast<size_t>(entry.end - entry.begin);
    absl::Span<const std::byte> range = data.subspan(static_cast<size_t>(entry.begin), length);
    const uintptr_t alignment = static_cast<uintptr_t>(ElementBytes(entry.dtype));
    if (reinterpret_cast<uintptr_t>(range.data()) % alignment != 0) {
      std::shared_ptr<std::byte[]> copy(new std::byte[length]);
      std::memcpy(copy.get(), range.data(), length);
      range = absl::MakeConstSpan(copy.get(), length);
      file.aligned_copies_.push_back(std::move(copy));
    }
    file.tensors_[entry.name] =
        Tensor{.dtype = std::move(entry.dtype), .shape = std::move(entry.shape), .bytes = range};
  }
  return file;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const std::string message = absl::StrCat(path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  }
  struct stat info {};
  const bool regular = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  const size_t size = regular ? static_cast<size_t>(info.st_size) : 0;
  void* address = MAP_FAILED;
  if (size > 0) address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int map_error = errno;
  close(descriptor);
  if (!regular) return FileError(path, "not a regular file");
  if (size == 0) return FileError(path, "truncated: 0 bytes, shorter than any header");
  if (address == MAP_FAILED) {
    return FileError(path, absl::StrCat("cannot be mapped: ", std::strerror(map_error)));
  }
  std::shared_ptr<const void> mapping(address, [size](void* start) { munmap(start, size); });
  madvise(address, size, MADV_WILLNEED);  // advice only: the weights are all read at load
  BASED_ASSIGN_OR_RETURN(
      SafetensorsFile file,
      Parse(absl::MakeConstSpan(static_cast<const std::byte*>(address), size), path));
  file.mapping_ = std::move(mapping);
  return file;
}

}  // namespace based
