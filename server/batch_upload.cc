#include "server/batch_upload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/batch_envelope.h"
#include "kernels/base/status.h"
#include "server/batch_line.h"

namespace based {

BatchUpload::BatchUpload(std::string folder, const BatchModel& model, BatchInputLimits limits)
    : folder_(std::move(folder)),
      path_(folder_ + kBatchInput),
      limits_(limits),
      builder_("input", [this, &model](absl::string_view text, const std::string& place) {
        return FactsOfBatchJobLine(text, place, model.openai, ignored_);
      }) {}

BatchUpload::~BatchUpload() {
  if (!folder_.empty()) RemoveFolder(folder_);
}

absl::StatusOr<std::unique_ptr<BatchUpload>> BatchUpload::Begin(const std::string& folder,
                                                                const BatchModel& model,
                                                                BatchInputLimits limits) {
  if (::mkdir(folder.c_str(), 0700) != 0) return FileError("cannot make", folder, errno);
  std::unique_ptr<BatchUpload> upload(new BatchUpload(folder, model, limits));
  BASED_ASSIGN_OR_RETURN(upload->file_, OpenFile(upload->path_, O_RDWR | O_CREAT | O_EXCL));
  return upload;
}

absl::Status BatchUpload::CheckBytes(int64_t bytes, int64_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the input is longer than ", limit,
      " bytes (--batch_input_bytes, or what --batch_tenant_disk and --batch_disk leave)"));
}

absl::Status BatchUpload::Add(absl::string_view piece) {
  BASED_RETURN_IF_ERROR(CheckBytes(bytes_ + static_cast<int64_t>(piece.size()), limits_.bytes));
  BASED_RETURN_IF_ERROR(WriteAll(file_.get(), piece, path_));
  bytes_ += static_cast<int64_t>(piece.size());
  while (true) {
    const size_t end = piece.find('\n');
    if (end == absl::string_view::npos) break;
    if (rest_.empty()) {
      BASED_RETURN_IF_ERROR(AddLine(piece.substr(0, end)));
    } else {
      absl::StrAppend(&rest_, piece.substr(0, end));
      const std::string line = std::exchange(rest_, std::string());
      BASED_RETURN_IF_ERROR(AddLine(line));
    }
    piece.remove_prefix(end + 1);
  }
  absl::StrAppend(&rest_, piece);
  return CheckLine(rest_);
}

absl::Status BatchUpload::CheckLine(absl::string_view line) const {
  if (static_cast<int64_t>(line.size()) <= kMaxBatchLineBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("input: the line after the first ",
                                                 builder_.lines(), " is longer than ",
                                                 kMaxBatchLineBytes, " bytes"));
}

absl::Status BatchUpload::AddLine(absl::string_view line) {
  BASED_RETURN_IF_ERROR(CheckLine(line));
  BASED_RETURN_IF_ERROR(builder_.Add(line, offset_));
  offset_ += static_cast<int64_t>(line.size()) + 1;
  if (builder_.lines() > limits_.lines) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the input has more than ", limits_.lines, " lines (--batch_lines)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<BatchPlan> BatchUpload::Finish() {
  if (!rest_.empty()) BASED_RETURN_IF_ERROR(AddLine(std::exchange(rest_, std::string())));
  if (builder_.lines() == 0 && !builder_.faulty()) {
    return absl::InvalidArgumentError("the input holds no line; expected one request or more");
  }
  if (::fsync(file_.get()) != 0) return FileError("cannot write", path_, errno);
  return builder_.Finish(std::move(file_), {});
}

}  // namespace based
