#include "kernels/cuda/weight_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/weights.h"

namespace based::cuda {
namespace {

constexpr int64_t kStagingBytes = int64_t{64} << 20;

Type ToType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Type::kF32;
    case DType::kF16:
      return Type::kF16;
    case DType::kBF16:
      return Type::kBF16;
  }
  return Type::kF32;
}

int64_t TypeBytes(Type type) { return type == Type::kF32 ? 4 : 2; }

}  // namespace

absl::StatusOr<const void*> WeightStore::Get(const std::vector<WeightId>& ids, Type type,
                                             bool transpose) {
  const auto key = std::make_tuple(ids, type, transpose);
  if (const auto found = packed_.find(key); found != packed_.end()) return found->second.data();
  int64_t values = 0;
  for (const WeightId id : ids) {
    const WeightView& view = program_->weights[static_cast<size_t>(id)];
    values += view.rows * view.cols;
  }
  const std::string& name = program_->weights[static_cast<size_t>(ids[0])].name;
  BASED_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Create(values * TypeBytes(type),
                                                                   absl::StrCat("weight ", name)));
  std::byte* out = buffer.as<std::byte>();
  for (const WeightId id : ids) {
    const WeightView& view = program_->weights[static_cast<size_t>(id)];
    BASED_RETURN_IF_ERROR(PackOne(view, type, transpose, out));
    out += view.rows * view.cols * TypeBytes(type);
  }
  bytes_ += buffer.bytes();
  return packed_.emplace(key, std::move(buffer)).first->second.data();
}

absl::Status WeightStore::PackOne(const WeightView& view, Type type, bool transpose, void* out) {
  const int64_t count = view.rows * view.cols;
  if (view.data == nullptr) {
    const FillParams fill = {.out = out,
                             .count = count,
                             .seed = view.synthetic_seed,
                             .mean = view.synthetic_mean,
                             .stddev = view.synthetic_stddev,
                             .out_type = type};
    BASED_CUDA_RETURN_IF_ERROR(Fill(fill, stream_));
    return ToStatus(cudaStreamSynchronize(stream_), absl::StrCat("making weight ", view.name));
  }
  if (staging_.data() == nullptr) {
    BASED_ASSIGN_OR_RETURN(staging_, DeviceBuffer::Create(kStagingBytes, "weight staging"));
  }
  const int64_t row_bytes = view.cols * DTypeBytes(view.dtype);
  const int64_t rows_at_once =
      transpose ? view.rows : std::max<int64_t>(1, kStagingBytes / row_bytes);
  if (rows_at_once * row_bytes > kStagingBytes && rows_at_once > 1) {
    return absl::UnimplementedError(
        absl::StrCat("weight ", view.name, " of ", count, " values is too large to transpose"));
  }
  if (row_bytes > kStagingBytes) {
    return absl::UnimplementedError(absl::StrCat("weight ", view.name, " has rows of ", row_bytes,
                                                 " bytes, most ", kStagingBytes));
  }
  for (int64_t row = 0; row < view.rows; row += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, view.rows - row);
    const std::byte* from = static_cast<const std::byte*>(view.data) + row * row_bytes;
    BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(staging_.data(), from,
                                               static_cast<size_t>(rows * row_bytes),
                                               cudaMemcpyHostToDevice, stream_));
    const PackParams pack = {
        .in = staging_.data(),
        .out = static_cast<std::byte*>(out) + row * view.cols * TypeBytes(type),
        .rows = rows,
        .cols = view.cols,
        .in_type = ToType(view.dtype),
        .out_type = type,
        .transpose = transpose};
    BASED_CUDA_RETURN_IF_ERROR(Pack(pack, stream_));
    BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_));
  }
  return absl::OkStatus();
}

}  // namespace based::cuda
