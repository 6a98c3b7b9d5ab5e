#include "server/batch_store.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/log.h"

namespace based {
namespace {

constexpr char kJobs[] = "/jobs";
constexpr char kMoving[] = "/moving";

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError("cannot make", path, error.value());
  return absl::OkStatus();
}

// The entries of a folder to the disk itself.
absl::Status SyncFolder(const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor folder, OpenFile(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.get()) != 0 && errno != EINVAL) return FileError("cannot write", path, errno);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchStore>> BatchStore::Open(const BatchOptions& options) {
  std::unique_ptr<BatchStore> store(new BatchStore(options));
  BASED_RETURN_IF_ERROR(MakeFolder(options.dir + kJobs));
  const std::string lock = options.dir + "/lock";
  BASED_ASSIGN_OR_RETURN(store->lock_, OpenFile(lock, O_RDWR | O_CREAT));
  if (::flock(store->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("--batch_dir is '", options.dir, "', which another process works on"));
  }
  RemoveFolder(options.dir + kMoving);
  BASED_RETURN_IF_ERROR(MakeFolder(options.dir + kMoving));
  BASED_RETURN_IF_ERROR(store->ReadAll());
  return store;
}

absl::Status BatchStore::ReadAll() {
  const std::string path = options_.dir + kJobs;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; entry != end && !error;
       entry.increment(error)) {
    const std::string folder = entry->path().string();
    absl::StatusOr<BatchRecord> record = ReadBatchRecord(folder);
    if (!record.ok()) {
      Log(LogLevel::kError, "batch_unreadable",
          {{"folder", absl::string_view(folder)}, {"message", record.status().message()}});
      continue;
    }
    const Key key(record->tenant, record->id);
    jobs_[key] = std::make_shared<BatchJob>(folder, *std::move(record));
  }
  if (error) return FileError("cannot read", path, error.value());
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<BatchJob>> BatchStore::Find(const std::string& tenant,
                                                           const std::string& id) const {
  const auto found = jobs_.find(Key(tenant, id));
  if (found != jobs_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat("there is no batch job '", id, "'"));
}

std::vector<std::shared_ptr<BatchJob>> BatchStore::List(const std::string& tenant,
                                                        const std::string& after,
                                                        size_t most) const {
  std::vector<std::shared_ptr<BatchJob>> jobs;
  for (auto job = jobs_.upper_bound(Key(tenant, after));
       job != jobs_.end() && job->first.first == tenant && jobs.size() < most; ++job) {
    jobs.push_back(job->second);
  }
  return jobs;
}

std::vector<std::shared_ptr<BatchJob>> BatchStore::All() const {
  std::vector<std::shared_ptr<BatchJob>> jobs;
  for (const auto& [key, job] : jobs_) jobs.push_back(job);
  std::stable_sort(jobs.begin(), jobs.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a->record().tenant, a->record().created_ms) <
           std::make_pair(b->record().tenant, b->record().created_ms);
  });
  return jobs;
}

int64_t BatchStore::bytes() const {
  int64_t bytes = 0;
  for (const auto& [key, job] : jobs_) bytes += job->bytes();
  return bytes;
}

int64_t BatchStore::BytesOf(const std::string& tenant) const {
  int64_t bytes = 0;
  for (const auto& [key, job] : jobs_) bytes += key.first == tenant ? job->bytes() : 0;
  return bytes;
}

int64_t BatchStore::TenantLimit() const {
  return options_.tenant_disk > 0 ? options_.tenant_disk : options_.disk;
}

absl::Status BatchStore::Room(const std::string& tenant) const {
  if (const int64_t taken = bytes(); taken >= options_.disk) {
    return absl::ResourceExhaustedError(
        absl::StrCat("batch jobs take ", taken, " bytes and may take ", options_.disk,
                     " (--batch_disk): jobs must be deleted before others go on"));
  }
  if (const int64_t taken = BytesOf(tenant); taken >= TenantLimit()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the tenant's batch jobs take ", taken, " bytes and may take ", TenantLimit(),
                     " (--batch_tenant_disk): some must be deleted before others go on"));
  }
  return absl::OkStatus();
}

int64_t BatchStore::RoomForInput(const std::string& tenant) const {
  return std::min({options_.input_bytes, TenantLimit() - BytesOf(tenant), options_.disk - bytes()});
}

absl::Status BatchStore::CheckMayAdd(const std::string& tenant, const std::string& id) const {
  if (jobs_.count(Key(tenant, id)) > 0) {
    return absl::AlreadyExistsError(absl::StrCat("there is a batch job '", id, "' already"));
  }
  const auto same = [&](const auto& entry) { return entry.first.first == tenant; };
  const auto jobs = std::count_if(jobs_.begin(), jobs_.end(), same);
  if (jobs >= options_.jobs_per_tenant) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the tenant has ", jobs, " batch jobs and may have ", options_.jobs_per_tenant,
                     " (--batch_jobs); delete some"));
  }
  return Room(tenant);
}

absl::StatusOr<std::unique_ptr<BatchUpload>> BatchStore::Begin(const std::string& tenant,
                                                               const std::string& id,
                                                               const BatchModel& model) {
  BASED_RETURN_IF_ERROR(CheckMayAdd(tenant, id));
  return BatchUpload::Begin(NewMovingPath(), model,
                            {.lines = options_.lines, .bytes = RoomForInput(tenant)});
}

absl::StatusOr<std::shared_ptr<BatchJob>> BatchStore::Finish(const std::string& tenant,
                                                             const std::string& id,
                                                             BatchUpload& upload,
                                                             const BatchModel& model) {
  BASED_ASSIGN_OR_RETURN(BatchPlan plan, upload.Finish());
  // Others have come meanwhile.
  BASED_RETURN_IF_ERROR(CheckMayAdd(tenant, id));
  BASED_RETURN_IF_ERROR(upload.CheckBytes(RoomForInput(tenant)));
  BatchRecord record = {.tenant = tenant,
                        .id = id,
                        .model = model.openai.name,
                        .model_digest = model.digest,
                        .input = plan.digest(),
                        .lines = static_cast<int64_t>(plan.entries().size()),
                        .created_ms = MillisecondsNow()};
  record.ignored_fields.assign(upload.ignored().begin(), upload.ignored().end());
  BASED_RETURN_IF_ERROR(WriteBatchRecord(record, upload.folder()));
  const std::string jobs = options_.dir + kJobs;
  const std::string folder = absl::StrCat(jobs, "/", BatchFolderName(tenant, id));
  if (std::rename(upload.folder().c_str(), folder.c_str()) != 0) {
    return FileError("cannot make", folder, errno);
  }
  upload.Release();
  auto job = std::make_shared<BatchJob>(folder, std::move(record));
  jobs_[Key(tenant, id)] = job;
  BASED_RETURN_IF_ERROR(SyncFolder(jobs));
  return job;
}

void BatchStore::Remove(BatchJob& job) {
  // In one step out of sight: a folder that is half removed would be no job.
  const std::string moved = NewMovingPath();
  if (std::rename(job.folder().c_str(), moved.c_str()) == 0) RemoveFolder(moved);
  jobs_.erase(Key(job.record().tenant, job.record().id));
}

void BatchStore::Expire() {
  if (options_.keep.count() == 0) return;
  const int64_t before = MillisecondsNow() - std::chrono::milliseconds(options_.keep).count();
  std::vector<std::shared_ptr<BatchJob>> old;
  for (const auto& [key, job] : jobs_) {
    if (job->settled() && job->record().ended_ms < before) old.push_back(job);
  }
  for (const auto& job : old) {
    Log(LogLevel::kInfo, "batch_expired",
        {{"tenant", absl::string_view(job->record().tenant)},
         {"id", absl::string_view(job->record().id)}});
    Remove(*job);
  }
}

std::string BatchStore::NewMovingPath() {
  return absl::StrCat(options_.dir, kMoving, "/", ++moved_);
}

}  // namespace based
