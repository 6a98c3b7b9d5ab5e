#include "client/jobs_remote.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/remote.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPieceBytes = 512 << 10;
constexpr std::chrono::milliseconds kPause{500};

// The wait that the daemon asks for; negative: it asks for none.
std::chrono::milliseconds PushbackOf(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto found = metadata.find("grpc-retry-pushback-ms");
  int64_t wait = -1;
  if (found != metadata.end() &&
      !absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()), &wait)) {
    wait = -1;
  }
  return std::chrono::milliseconds(wait);
}

}  // namespace

JobsAtDaemon::JobsAtDaemon(JobsOptions options)
    : options_(std::move(options)),
      channel_(DaemonChannel()),
      stub_(v1::BatchService::NewStub(channel_)) {}

absl::Status JobsAtDaemon::Retry(const std::function<grpc::Status(grpc::ClientContext&)>& call,
                                 const absl::Status& ours) {
  const Clock::time_point give_up = Clock::now() + options_.daemon_wait;
  while (true) {
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Status status = call(context);
    if (status.ok()) return absl::OkStatus();
    const std::chrono::milliseconds pushback = PushbackOf(context);
    // A daemon that stops cancels what has just come.
    const bool stopped = status.error_code() == grpc::StatusCode::CANCELLED && ours.ok();
    const bool full =
        status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED && pushback.count() >= 0;
    const bool again = stopped || full || status.error_code() == grpc::StatusCode::UNAVAILABLE;
    const Clock::time_point next = Clock::now() + std::max(pushback, kPause);
    if (!again || next >= give_up) return FromGrpc(status);
    std::this_thread::sleep_until(next);
    // gRPC itself waits up to two minutes between connects.
    grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
  }
}

grpc::Status JobsAtDaemon::Send(grpc::ClientContext& context, int fd, const std::string& id,
                                v1::Batch& batch, absl::Status& read) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) read = FileError("cannot read", id, errno);
  auto writer = stub_->CreateBatch(&context, &batch);
  v1::CreateBatchRequest request;
  request.set_id(id);
  request.set_tenant(options_.tenant);
  int64_t sent = 0;
  while (read.ok() && !request.last()) {
    const int64_t size = std::min(kPieceBytes, info.st_size - sent);
    absl::StatusOr<std::string> piece = ReadAt(fd, sent, size, "the input");
    read = piece.status();
    if (!read.ok()) break;
    sent += size;
    request.set_lines(*std::move(piece));
    request.set_last(sent >= info.st_size);
    if (!writer->Write(request)) break;  // Finish says why
    request.clear_id();
    request.clear_tenant();
  }
  if (!read.ok()) context.TryCancel();
  writer->WritesDone();
  return writer->Finish();
}

absl::StatusOr<v1::Batch> JobsAtDaemon::Submit(const std::string& input, const std::string& id) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(input, O_RDONLY));
  v1::Batch batch;
  absl::Status read;
  int tries = 0;
  const absl::Status status = Retry(
      [&](grpc::ClientContext& context) {
        ++tries;
        return Send(context, file.get(), id, batch, read);
      },
      read);
  BASED_RETURN_IF_ERROR(read);
  // A try whose answer was lost has made it.
  if (absl::IsAlreadyExists(status) && tries > 1) return Get(id);
  if (!status.ok()) return status;
  return batch;
}

absl::StatusOr<v1::Batch> JobsAtDaemon::Get(const std::string& id) {
  v1::GetBatchRequest request;
  request.set_id(id);
  request.set_tenant(options_.tenant);
  v1::Batch batch;
  BASED_RETURN_IF_ERROR(Retry(
      [&](grpc::ClientContext& context) { return stub_->GetBatch(&context, request, &batch); }));
  return batch;
}

absl::Status JobsAtDaemon::List(const std::function<void(const v1::Batch&)>& show) {
  v1::ListBatchesRequest request;
  request.set_tenant(options_.tenant);
  while (true) {
    v1::ListBatchesResponse response;
    BASED_RETURN_IF_ERROR(Retry([&](grpc::ClientContext& context) {
      return stub_->ListBatches(&context, request, &response);
    }));
    for (const v1::Batch& batch : response.batches()) show(batch);
    if (response.next_page_token().empty()) return absl::OkStatus();
    request.set_page_token(response.next_page_token());
  }
}

absl::StatusOr<v1::Batch> JobsAtDaemon::Cancel(const std::string& id) {
  v1::CancelBatchRequest request;
  request.set_id(id);
  request.set_tenant(options_.tenant);
  v1::Batch batch;
  BASED_RETURN_IF_ERROR(Retry(
      [&](grpc::ClientContext& context) { return stub_->CancelBatch(&context, request, &batch); }));
  return batch;
}

absl::Status JobsAtDaemon::Delete(const std::string& id) {
  v1::DeleteBatchRequest request;
  request.set_id(id);
  request.set_tenant(options_.tenant);
  return Retry([&](grpc::ClientContext& context) {
    v1::DeleteBatchResponse response;
    return stub_->DeleteBatch(&context, request, &response);
  });
}

absl::StatusOr<int64_t> JobsAtDaemon::Fetch(const std::string& id, const std::string& output) {
  if (FileExists(output)) {
    return absl::AlreadyExistsError(absl::StrCat(output, " is there; name another file"));
  }
  const std::string temporary = output + ".fetching";
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file,
                         OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC));
  v1::StreamResultsRequest request;
  request.set_id(id);
  request.set_tenant(options_.tenant);
  absl::Status written;
  absl::Status status = Retry(
      [&](grpc::ClientContext& context) {
        // After a lost connection it goes on where it was.
        auto reader = stub_->StreamResults(&context, request);
        v1::StreamResultsResponse response;
        while (written.ok() && reader->Read(&response)) {
          written = WriteAll(file.get(), response.lines(), temporary);
          request.set_first(response.next());
        }
        if (!written.ok()) context.TryCancel();
        return reader->Finish();
      },
      written);
  if (!written.ok()) status = written;
  if (status.ok()) status = CommitFile(file.get(), temporary, output);
  if (status.ok()) return request.first();
  ::unlink(temporary.c_str());
  return status;
}

}  // namespace based
