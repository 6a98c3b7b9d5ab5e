#include "client/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "kernels/base/status.h"

namespace based {

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const bool regular, IsRegularOrNew(path));
  const std::string temporary = regular ? path + ".new" : "";
  BASED_ASSIGN_OR_RETURN(
      FileDescriptor file,
      regular ? OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC) : OpenFile(path, O_WRONLY));
  return OutputFile(path, temporary, std::move(file));
}

OutputFile::OutputFile(std::string path, std::string temporary, FileDescriptor file)
    : path_(std::move(path)), temporary_(std::move(temporary)), file_(std::move(file)) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(other.path_),
      temporary_(std::exchange(other.temporary_, std::string())),
      file_(std::move(other.file_)) {}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

absl::Status OutputFile::Commit(absl::string_view text) {
  BASED_RETURN_IF_ERROR(WriteAll(file_.get(), text, temporary_.empty() ? path_ : temporary_));
  if (temporary_.empty()) return absl::OkStatus();
  BASED_RETURN_IF_ERROR(CommitFile(file_.get(), temporary_, path_));
  temporary_.clear();
  return absl::OkStatus();
}

}  // namespace based
