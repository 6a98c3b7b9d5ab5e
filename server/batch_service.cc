#include "server/batch_service.h"

#include <utility>

#include "engine/session_store.h"
#include "kernels/base/status.h"
#include "server/answer_limit.h"
#include "server/batch_create.h"
#include "server/batch_stream.h"
#include "server/call_context.h"
#include "server/page.h"
#include "server/status.h"

namespace based {
namespace {

absl::Status Draining() { return absl::UnavailableError("the daemon is draining"); }

// The job of a request, and what a method does with it.
template <typename Message>
absl::Status WithJob(const BatchJobs& jobs, const std::string& tenant, const Message& request,
                     const std::function<absl::Status(BatchJob&)>& act) {
  BASED_RETURN_IF_ERROR(CheckSessionId("id", request.id()));
  BASED_ASSIGN_OR_RETURN(const std::shared_ptr<BatchJob> job, jobs.Find(tenant, request.id()));
  return act(*job);
}

absl::Status List(const BatchJobs& jobs, const std::string& tenant,
                  const v1::ListBatchesRequest& request, v1::ListBatchesResponse& response) {
  BASED_ASSIGN_OR_RETURN(const int32_t size, PageSizeOf(request));
  const auto most = static_cast<size_t>(size);
  for (const auto& job : jobs.store().List(tenant, request.page_token(), most + 1)) {
    if (response.batches_size() == size) {
      response.set_next_page_token(response.batches(size - 1).id());
      break;
    }
    ToProto(jobs, *job, *response.add_batches());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Caller> BatchService::Enter(const grpc::CallbackServerContext& context) const {
  BASED_ASSIGN_OR_RETURN(Gate::Entry entry, gate_.Enter(context, Permission::kBatches));
  if (jobs_.load(std::memory_order_acquire) == nullptr) {
    return absl::FailedPreconditionError(
        "this daemon keeps no batch jobs; they need a folder, --batch_dir");
  }
  return std::move(entry.caller);
}

absl::Status BatchService::Enter(const grpc::CallbackServerContext& context,
                                 std::string& tenant) const {
  BASED_ASSIGN_OR_RETURN(const Caller caller, Enter(context));
  return ApplyTenant(caller, tenant);
}

grpc::ServerUnaryReactor* BatchService::Answer(grpc::CallbackServerContext* context,
                                               const google::protobuf::Message& response,
                                               const absl::Status& entered,
                                               std::function<absl::Status(BatchJobs&)> call) {
  auto* const reactor = new UnaryAnswer(context, write_timeout_);
  const auto finish = [context, reactor, &response](const absl::Status& status) {
    reactor->End(response, FailCall(context, status, FailedAt::kBatch));
  };
  BatchJobs* jobs = jobs_;
  if (!entered.ok()) {
    finish(entered);
  } else if (!jobs->Post([jobs, finish, call = std::move(call)] { finish(call(*jobs)); })) {
    finish(Draining());
  }
  return reactor;
}

grpc::ServerReadReactor<v1::CreateBatchRequest>* BatchService::CreateBatch(
    grpc::CallbackServerContext* context, v1::Batch* response) {
  absl::StatusOr<Caller> caller = Enter(*context);
  if (caller.ok()) {
    const std::string peer = context->peer();
    const absl::Status permitted = CheckPermission(
        *caller, Permission::kGenerate, {.authorization = "", .peer = peer, .request_id = ""});
    if (!permitted.ok()) caller = permitted;
  }
  return new BatchCreateReactor(jobs_, std::move(caller), context, response);
}

grpc::ServerUnaryReactor* BatchService::GetBatch(grpc::CallbackServerContext* context,
                                                 const v1::GetBatchRequest* request,
                                                 v1::Batch* response) {
  std::string tenant = request->tenant();
  const absl::Status entered = Enter(*context, tenant);
  return Answer(context, *response, entered, [=](BatchJobs& jobs) {
    return WithJob(jobs, tenant, *request, [&](BatchJob& job) {
      ToProto(jobs, job, *response);
      return absl::OkStatus();
    });
  });
}

grpc::ServerUnaryReactor* BatchService::ListBatches(grpc::CallbackServerContext* context,
                                                    const v1::ListBatchesRequest* request,
                                                    v1::ListBatchesResponse* response) {
  std::string tenant = request->tenant();
  const absl::Status entered = Enter(*context, tenant);
  return Answer(context, *response, entered,
                [=](BatchJobs& jobs) { return List(jobs, tenant, *request, *response); });
}

grpc::ServerUnaryReactor* BatchService::CancelBatch(grpc::CallbackServerContext* context,
                                                    const v1::CancelBatchRequest* request,
                                                    v1::Batch* response) {
  std::string tenant = request->tenant();
  const absl::Status entered = Enter(*context, tenant);
  return Answer(context, *response, entered, [=](BatchJobs& jobs) {
    return WithJob(jobs, tenant, *request, [&](BatchJob& job) {
      BASED_RETURN_IF_ERROR(jobs.Cancel(job));
      ToProto(jobs, job, *response);
      return absl::OkStatus();
    });
  });
}

grpc::ServerUnaryReactor* BatchService::DeleteBatch(grpc::CallbackServerContext* context,
                                                    const v1::DeleteBatchRequest* request,
                                                    v1::DeleteBatchResponse* /*response*/) {
  std::string tenant = request->tenant();
  absl::Status entered = Enter(*context, tenant);
  if (entered.ok()) entered = CheckSessionId("id", request->id());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [context, reactor](const absl::Status& status) {
    reactor->Finish(FailCall(context, status, FailedAt::kBatch));
  };
  BatchJobs* jobs = jobs_;
  const auto task = [jobs, tenant, request, finish] {
    absl::Status status = jobs->CheckServing();
    const auto job = jobs->Find(tenant, request->id());
    if (status.ok()) status = job.status();
    if (!status.ok()) return finish(status);
    jobs->Delete(*job, [finish] { finish(absl::OkStatus()); });
  };
  if (!entered.ok()) {
    finish(entered);
  } else if (!jobs->Post(task)) {
    finish(Draining());
  }
  return reactor;
}

grpc::ServerWriteReactor<v1::StreamResultsResponse>* BatchService::StreamResults(
    grpc::CallbackServerContext* context, const v1::StreamResultsRequest* request) {
  std::string tenant = request->tenant();
  const absl::Status entered = Enter(*context, tenant);
  return new BatchStreamReactor(jobs_, metrics_, write_timeout_, entered, context,
                                std::move(tenant), *request);
}

}  // namespace based
