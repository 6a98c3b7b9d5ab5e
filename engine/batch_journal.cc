#include "engine/batch_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "xxhash.h"

namespace based {
namespace {

constexpr char kMagic[] = "based-batch-1 ";
constexpr size_t kHashDigits = 16;
// A result is at most some times its request's size and the daemon's limit of output.
constexpr int64_t kMaxRecordBytes = int64_t{1} << 30;
constexpr size_t kWriteBytes = 1 << 20;
constexpr int kOpenTries = 100;

std::string HeaderOf(const BatchIdentity& identity) {
  return absl::StrCat(kMagic, "{\"input\":\"", identity.input, "\",\"lines\":", identity.lines,
                      ",\"model\":\"", identity.model, "\"}");
}

std::string HashOf(absl::string_view text) {
  return absl::StrFormat("%016x", XXH3_64bits(text.data(), text.size()));
}

// Opens and locks. The one who had it may just have removed it: then it is another file by now.
absl::StatusOr<FileDescriptor> OpenLocked(const std::string& path) {
  for (int i = 0; i < kOpenTries; ++i) {
    BASED_ASSIGN_OR_RETURN(FileDescriptor file, OpenFile(path, O_RDWR | O_CREAT));
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return FileError("cannot lock", path, errno);
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": another process works on this batch"));
    }
    struct stat ours {
    }, there{};
    if (::fstat(file.get(), &ours) != 0) return FileError("cannot read", path, errno);
    if (::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
        ours.st_dev == there.st_dev) {
      return file;
    }
  }
  return absl::FailedPreconditionError(absl::StrCat(path, ": others keep replacing it"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchJournal>> BatchJournal::Open(const std::string& output,
                                                                 const BatchIdentity& identity) {
  const std::string path = output + ".partial";
  BASED_ASSIGN_OR_RETURN(FileDescriptor file, OpenLocked(path));
  std::unique_ptr<BatchJournal> journal(
      new BatchJournal(output, path, std::move(file), identity.lines));
  BASED_RETURN_IF_ERROR(journal->Recover(HeaderOf(identity)));
  if (journal->finished_ < identity.lines && FileExists(output)) {
    return absl::FailedPreconditionError(
        absl::StrCat(output, " is there beside the unfinished ", path, "; move one of them away"));
  }
  return journal;
}

absl::Status BatchJournal::Recover(const std::string& header) {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return FileError("cannot read", path_, errno);
  LineReader reader(file_.get(), path_, kMaxRecordBytes);
  BASED_ASSIGN_OR_RETURN(bool more, reader.Next());
  const bool torn_header = more && !reader.terminated() && absl::StartsWith(header, reader.line());
  if (!more || torn_header) {
    if (::ftruncate(file_.get(), 0) != 0) return FileError("cannot write", path_, errno);
    BASED_RETURN_IF_ERROR(WriteAll(file_.get(), header + "\n", path_));
    end_ = static_cast<int64_t>(header.size()) + 1;
    return absl::OkStatus();
  }
  if (!absl::StartsWith(reader.line(), kMagic)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": not the checkpoint of a batch; move it away"));
  }
  if (reader.line() != header) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": the checkpoint of another batch, ", reader.line().substr(sizeof(kMagic) - 1, 200),
        "; expected ", header.substr(sizeof(kMagic) - 1), ". Move it away or name another output"));
  }
  end_ = static_cast<int64_t>(header.size()) + 1;
  while (true) {
    const absl::StatusOr<bool> next = reader.Next();
    if (!next.ok() && !absl::IsInvalidArgument(next.status())) return next.status();
    if (!next.ok() || !*next || !reader.terminated()) break;
    if (!Accept(reader.line(), reader.offset())) break;
    end_ = reader.offset() + static_cast<int64_t>(reader.line().size()) + 1;
  }
  cut_bytes_ = info.st_size - end_;
  if (cut_bytes_ > 0 && ::ftruncate(file_.get(), end_) != 0) {
    return FileError("cannot write", path_, errno);
  }
  if (::lseek(file_.get(), end_, SEEK_SET) < 0) return FileError("cannot write", path_, errno);
  return absl::OkStatus();
}

bool BatchJournal::Accept(absl::string_view record, int64_t offset) {
  if (record.size() <= kHashDigits || record[kHashDigits] != ' ') return false;
  const absl::string_view body = record.substr(kHashDigits + 1);
  if (HashOf(body) != record.substr(0, kHashDigits)) return false;
  const std::vector<absl::string_view> parts = absl::StrSplit(body, absl::MaxSplits(' ', 2));
  int64_t entry = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &entry) || entry < 0 ||
      entry >= static_cast<int64_t>(places_.size()) || Has(static_cast<size_t>(entry))) {
    return false;
  }
  const auto bytes = static_cast<int64_t>(parts[2].size());
  places_[static_cast<size_t>(entry)] = {
      .offset = offset + static_cast<int64_t>(record.size()) - bytes, .bytes = bytes};
  ++finished_;
  failed_ += parts[1] == "error";
  return true;
}

absl::Status BatchJournal::Append(size_t entry, bool failed, absl::string_view json) {
  BASED_CHECK(!Has(entry));
  const std::string body = absl::StrCat(entry, failed ? " error " : " ok ", json);
  const std::string record = absl::StrCat(HashOf(body), " ", body, "\n");
  const absl::Status written = WriteAll(file_.get(), record, path_);
  if (!written.ok()) {
    // What got through is a torn record; without it others of this process could be added later.
    if (::ftruncate(file_.get(), end_) == 0) ::lseek(file_.get(), end_, SEEK_SET);
    return written;
  }
  BASED_CHECK(Accept(absl::string_view(record).substr(0, record.size() - 1), end_));
  end_ += static_cast<int64_t>(record.size());
  return absl::OkStatus();
}

absl::StatusOr<std::string> BatchJournal::Read(size_t entry) const {
  BASED_CHECK(Has(entry));
  return ReadAt(file_.get(), places_[entry].offset, places_[entry].bytes, path_);
}

absl::Status BatchJournal::Sync() {
  if (::fdatasync(file_.get()) != 0) return FileError("cannot write", path_, errno);
  return absl::OkStatus();
}

absl::Status BatchJournal::Finish() {
  const std::string temporary = output_ + ".new";
  if (const absl::Status written = WriteOutput(temporary); !written.ok()) {
    ::unlink(temporary.c_str());  // on a full disk its bytes are wanted
    return written;
  }
  if (::unlink(path_.c_str()) != 0) return FileError("cannot remove", path_, errno);
  return absl::OkStatus();
}

absl::Status BatchJournal::WriteOutput(const std::string& temporary) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file,
                         OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC));
  std::string buffer;
  for (size_t entry = 0; entry < places_.size(); ++entry) {
    if (!Has(entry)) continue;
    BASED_ASSIGN_OR_RETURN(const std::string json, Read(entry));
    absl::StrAppend(&buffer, json, "\n");
    if (buffer.size() < kWriteBytes) continue;
    BASED_RETURN_IF_ERROR(WriteAll(file.get(), buffer, temporary));
    buffer.clear();
  }
  BASED_RETURN_IF_ERROR(WriteAll(file.get(), buffer, temporary));
  return CommitFile(file.get(), temporary, output_);
}

}  // namespace based
