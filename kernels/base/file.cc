#include "kernels/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

absl::Status FileError(absl::string_view what, const std::string& path, int error_number) {
  const std::string message = absl::StrCat(what, " ", path, ": ", std::strerror(error_number));
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    default:
      return absl::UnknownError(message);
  }
}

absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) {
    const bool writes = (flags & O_ACCMODE) != O_RDONLY;
    return FileError(writes ? "cannot write" : "cannot read", path, errno);
  }
  return FileDescriptor(fd);
}

bool FileExists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

absl::StatusOr<bool> IsRegularOrNew(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return S_ISREG(info.st_mode);
  if (errno == ENOENT) return true;
  return FileError("cannot write", path, errno);
}

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError("cannot write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAt(int fd, int64_t offset, int64_t size, const std::string& path) {
  std::string bytes(static_cast<size_t>(size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got =
        ::pread(fd, bytes.data() + done, bytes.size() - done, offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("cannot read", path, errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path, " ends at byte ", offset + done, "; expected ",
                                              offset + size, " bytes"));
    }
    done += static_cast<size_t>(got);
  }
  return bytes;
}

absl::Status CommitFile(int fd, const std::string& from, const std::string& to) {
  if (::fsync(fd) != 0) return FileError("cannot write", from, errno);
  if (std::rename(from.c_str(), to.c_str()) != 0) return FileError("cannot write", to, errno);
  const std::string directory = DirectoryOf(to);
  BASED_ASSIGN_OR_RETURN(const FileDescriptor opened, OpenFile(directory, O_RDONLY | O_DIRECTORY));
  // Some file systems cannot flush a directory and say EINVAL; the rename holds all the same.
  if (::fsync(opened.get()) != 0 && errno != EINVAL) {
    return FileError("cannot write", directory, errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> LineReader::Fill() {
  buffer_.erase(0, next_);
  next_ = 0;
  const size_t had = buffer_.size();
  buffer_.resize(had + kChunkBytes);
  ssize_t got = 0;
  do {
    got = ::pread(fd_, buffer_.data() + had, kChunkBytes, read_);
  } while (got < 0 && errno == EINTR);
  buffer_.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) return FileError("cannot read", path_, errno);
  read_ += got;
  return got > 0;
}

absl::StatusOr<bool> LineReader::Next() {
  offset_ = read_ - static_cast<int64_t>(buffer_.size() - next_);
  ++number_;
  size_t searched = 0;  // bytes of the line that hold no line break
  while (true) {
    const size_t end = buffer_.find('\n', next_ + searched);
    terminated_ = end != std::string::npos;
    searched = (terminated_ ? end : buffer_.size()) - next_;
    if (static_cast<int64_t>(searched) > max_line_bytes_) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ":", number_, ": longer than ", max_line_bytes_, " bytes"));
    }
    if (terminated_) {
      begin_ = next_;
      size_ = end - next_;
      next_ = end + 1;
      return true;
    }
    BASED_ASSIGN_OR_RETURN(const bool more, Fill());
    if (more) continue;
    begin_ = next_;
    size_ = searched;
    next_ = buffer_.size();
    return size_ > 0;
  }
}

}  // namespace based
