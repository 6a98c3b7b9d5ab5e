// A file that a command writes at its end, and that is known from the beginning to be writable.
#ifndef BASED_CLIENT_OUTPUT_FILE_H_
#define BASED_CLIENT_OUTPUT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/base/file.h"

namespace based {

class OutputFile {
 public:
  // Regular files are written beside `path`, as `path`.new, and put in its place by Commit: an
  // older one stays until then, and for good when the command ends sooner. Devices and pipes are
  // opened. The errors of OpenFile.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  // Without Commit nothing is left of it.
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  // Call once.
  absl::Status Commit(absl::string_view text);

 private:
  OutputFile(std::string path, std::string temporary, FileDescriptor file);

  const std::string path_;
  std::string temporary_;  // empty: none
  FileDescriptor file_;
};

}  // namespace based

#endif  // BASED_CLIENT_OUTPUT_FILE_H_
