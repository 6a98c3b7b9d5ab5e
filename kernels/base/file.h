// Files: lines in, durable bytes out. Every error names the file and the reason.
#ifndef BASED_KERNELS_BASE_FILE_H_
#define BASED_KERNELS_BASE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace based {

// An open file; closed with this. -1: none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return fd_; }

 private:
  int fd_;
};

// `what` ("cannot write"), the file and what the system says. RESOURCE_EXHAUSTED for a full disk,
// else NOT_FOUND, PERMISSION_DENIED or UNKNOWN.
absl::Status FileError(absl::string_view what, const std::string& path, int error_number);

absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags);
bool FileExists(const std::string& path);
// Whether nothing is at `path`, or a regular file: another may take its place. False of a folder, a
// device or a pipe.
absl::StatusOr<bool> IsRegularOrNew(const std::string& path);

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path);
// Exactly `size` bytes from `offset`; DATA_LOSS when the file ends before.
absl::StatusOr<std::string> ReadAt(int fd, int64_t offset, int64_t size, const std::string& path);

// Flushes to the disk, then `from` is called `to`, at once and for good.
absl::Status CommitFile(int fd, const std::string& from, const std::string& to);

// Reads a file line by line from its beginning, whatever its size.
class LineReader {
 public:
  LineReader(int fd, std::string path, int64_t max_line_bytes)
      : fd_(fd), path_(std::move(path)), max_line_bytes_(max_line_bytes) {}

  // False at the end. The line has no line break and lives until the next call.
  absl::StatusOr<bool> Next();
  absl::string_view line() const { return absl::string_view(buffer_).substr(begin_, size_); }
  int64_t offset() const { return offset_; }       // of the line in the file
  int64_t number() const { return number_; }       // of the line, from 1
  bool terminated() const { return terminated_; }  // a line break follows it

 private:
  absl::StatusOr<bool> Fill();  // false: nothing more to read

  const int fd_;
  const std::string path_;
  const int64_t max_line_bytes_;
  std::string buffer_;
  size_t begin_ = 0, size_ = 0;  // the line
  size_t next_ = 0;              // where the following line begins
  int64_t read_ = 0;             // bytes of the file so far
  int64_t offset_ = 0, number_ = 0;
  bool terminated_ = false;
};

}  // namespace based

#endif  // BASED_KERNELS_BASE_FILE_H_
