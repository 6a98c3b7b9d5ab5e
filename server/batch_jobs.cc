#include "server/batch_jobs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "server/log.h"

namespace based {
namespace {

constexpr std::chrono::milliseconds kTick{1000};
constexpr std::chrono::milliseconds kPoll{100};  // while jobs run
// Calls of all tenants, and of one.
constexpr int32_t kMostSenders = 16, kMostSendersOfTenant = 8;
constexpr int32_t kMostReaders = 256, kMostReadersOfTenant = 64;

void LogJob(LogLevel level, absl::string_view event, const BatchJob& job,
            absl::string_view message = "") {
  const BatchRecord& record = job.record();
  Log(level, event,
      {{"tenant", absl::string_view(record.tenant)},
       {"id", absl::string_view(record.id)},
       {"lines", record.lines},
       {"finished", job.finished()},
       {"failed", job.failed()},
       {"generated_tokens", job.generated_tokens()},
       {"bytes", job.bytes()},
       {"message", message}});
}

}  // namespace

BatchJobs::BatchJobs(std::unique_ptr<BatchStore> store, const BatchOptions& options)
    : options_(options),
      store_(std::move(store)),
      senders_("calls that send a batch's input", kMostSenders, kMostSendersOfTenant),
      readers_("calls that read a batch's results", kMostReaders, kMostReadersOfTenant) {}

absl::StatusOr<std::unique_ptr<BatchJobs>> BatchJobs::Open(const BatchOptions& options) {
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<BatchStore> store, BatchStore::Open(options));
  return std::unique_ptr<BatchJobs>(new BatchJobs(std::move(store), options));
}

void BatchJobs::Start(Engine& engine, BatchModel model) {
  model_ = std::move(model);
  host_.reset(
      new BatchRun::Host{.engine = engine,
                         .model = *model_,
                         .post = [this](std::function<void()> task) { Post(std::move(task)); },
                         .counts = {}});
  const Capacity capacity = engine.capacity();
  // A few wait in the engine, so that a slot that falls free is taken by its next step.
  const int32_t waiting = std::min(std::max(capacity.slots_total / 8, 4), capacity.max_queue / 2);
  most_in_flight_ = std::max(capacity.slots_total + waiting, 1);
  for (const auto& job : store_->All()) {
    if (job->record().ended()) unsettled_.push_back(job);
  }
  {
    MutexLock lock(mutex_);
    use_.limit_bytes = options_.disk;
    running_ = true;
  }
  thread_ = std::thread([this] { Loop(); });
}

void BatchJobs::Stop() {
  Post([this] {
    stopping_ = true;
    for (const auto& run : runs_) run->Stop();
    TellFollowers();
  });
}

void BatchJobs::Shutdown() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

BatchUse BatchJobs::use() const {
  MutexLock lock(mutex_);
  return use_;
}

bool BatchJobs::Post(std::function<void()> task) {
  MutexLock lock(mutex_);
  if (!running_) return false;
  tasks_.push_back(std::move(task));
  changed_.NotifyOne();
  return true;
}

std::vector<std::function<void()>> BatchJobs::Take(Clock::time_point deadline) {
  MutexLock lock(mutex_);
  while (tasks_.empty() && !closing_ && Clock::now() < deadline) {
    changed_.WaitUntil(mutex_, deadline);
  }
  // From here on no task is taken, so that none is forgotten.
  if (tasks_.empty() && closing_) running_ = false;
  return std::exchange(tasks_, {});
}

void BatchJobs::Loop() {
  Clock::time_point next_tick = Clock::now();
  const auto running = [this] {
    MutexLock lock(mutex_);
    return running_;
  };
  while (running()) {
    const Clock::time_point wake = !loading_.empty() ? Clock::now()
                                   : runs_.empty()   ? next_tick
                                                     : Clock::now() + kPoll;
    for (const auto& task : Take(wake)) task();
    const Clock::time_point now = Clock::now();
    if (now >= next_tick) {
      Tick();
      next_tick = now + kTick;
    }
    Pump(now);
  }
  for (const auto& run : runs_) run->Tick();
}

void BatchJobs::Tick() {
  for (const auto& run : runs_) {
    run->set_room(store_->Room(run->job().record().tenant));
    run->Tick();
  }
  if (!stopping_) store_->Expire();
  look_for_work_ = true;
  PublishUse();
}

void BatchJobs::Pump(Clock::time_point now) {
  EndRuns();
  if (look_for_work_) {
    Settle();
    if (!stopping_) StartRuns();
    look_for_work_ = false;
  }
  if (!stopping_) {
    LoadSome();
    Send(now);
  }
  TellFollowers();
}

void BatchJobs::EndRuns() {
  for (auto& run : runs_) {
    BatchJob& job = run->job();
    if (!run->stopped() && run->complete()) {
      const absl::Status ended = job.End(BatchState::kCompleted);
      if (!ended.ok()) {
        job.set_message(std::string(ended.message()));
        continue;
      }
      job.set_message("");
      LogJob(LogLevel::kInfo, "batch_completed", job);
      run->Stop();
    }
    if (!run->stopped() || run->calls() > 0 || stopping_) continue;
    if (job.record().ended() && !IsDeleted(job)) {
      const auto shared = store_->Find(job.record().tenant, job.record().id);
      BASED_CHECK(shared.ok());
      unsettled_.push_back(*shared);
    }
    run = nullptr;
    look_for_work_ = true;
  }
  runs_.erase(std::remove(runs_.begin(), runs_.end(), nullptr), runs_.end());
  for (auto& [job, done] : deleting_) {
    if (RunOf(*job) != nullptr) continue;
    store_->Remove(*job);
    done();
    job = nullptr;
  }
  deleting_.erase(std::remove_if(deleting_.begin(), deleting_.end(),
                                 [](const auto& entry) { return entry.first == nullptr; }),
                  deleting_.end());
}

void BatchJobs::Settle() {
  for (auto& job : unsettled_) {
    if (!IsDeleted(*job)) {
      const absl::Status settled = job->Settle();
      job->set_message(std::string(settled.message()));
      if (!settled.ok()) continue;
    }
    job = nullptr;
  }
  unsettled_.erase(std::remove(unsettled_.begin(), unsettled_.end(), nullptr), unsettled_.end());
}

void BatchJobs::StartRuns() {
  std::vector<std::string> busy;
  for (const auto& run : runs_) busy.push_back(run->job().record().tenant);
  for (const auto& job : loading_) busy.push_back(job->record().tenant);
  for (const auto& job : store_->All()) {
    const std::string& tenant = job->record().tenant;
    const bool blocked = std::find(blocked_.begin(), blocked_.end(), job.get()) != blocked_.end();
    if (job->record().ended() || blocked || IsDeleted(*job) ||
        std::find(busy.begin(), busy.end(), tenant) != busy.end()) {
      continue;
    }
    loading_.push_back(job);
    busy.push_back(tenant);
  }
}

void BatchJobs::LoadSome() {
  for (auto& job : loading_) {
    const absl::StatusOr<bool> loaded = job->Load(*model_);
    if (loaded.ok() && !*loaded) continue;
    if (loaded.ok()) {
      job->set_message("");
      runs_.push_back(std::make_shared<BatchRun>(job, *host_));
      runs_.back()->set_room(store_->Room(job->record().tenant));
      LogJob(LogLevel::kInfo, "batch_started", *job);
    } else {
      Block(*job, loaded.status());
    }
    job = nullptr;
  }
  loading_.erase(std::remove(loading_.begin(), loading_.end(), nullptr), loading_.end());
}

void BatchJobs::Block(BatchJob& job, const absl::Status& why) {
  // A full disk may have room the next time; the rest changes with a restart.
  if (!absl::IsResourceExhausted(why)) {
    blocked_.push_back(&job);
    look_for_work_ = true;  // the tenant's next one
  }
  if (job.message() != why.message()) {
    LogJob(LogLevel::kError, "batch_blocked", job, why.message());
  }
  job.set_message(std::string(why.message()));
}

void BatchJobs::Send(Clock::time_point now) {
  int32_t in_flight = 0;
  for (const auto& run : runs_) in_flight += run->in_flight();
  while (true) {
    BatchRun* least = nullptr;
    for (const auto& run : runs_) {
      if (run->Next(now) > 0 && (least == nullptr || run->in_flight() < least->in_flight())) {
        least = run.get();
      }
    }
    if (least == nullptr) return;
    const int32_t sequences = least->Next(now);
    // However many one line asks for, alone it may go.
    if (in_flight > 0 && in_flight + sequences > most_in_flight_) return;
    in_flight += sequences;
    least->Send();
  }
}

void BatchJobs::TellFollowers() {
  std::vector<std::function<bool()>> looking = std::exchange(followers_, {});
  for (auto& look : looking) {
    if (!look()) followers_.push_back(std::move(look));
  }
}

BatchRun* BatchJobs::RunOf(const BatchJob& job) const {
  for (const auto& run : runs_) {
    if (&run->job() == &job) return run.get();
  }
  return nullptr;
}

void BatchJobs::PublishUse() {
  BatchUse use = {.counts = host_->counts, .limit_bytes = options_.disk};
  for (const auto& job : store_->All()) {
    const BatchState state = StateOf(*job);
    ++(state == BatchState::kQueued      ? use.queued
       : state == BatchState::kRunning   ? use.running
       : state == BatchState::kCompleted ? use.completed
                                         : use.cancelled);
    use.bytes += job->bytes();
  }
  for (const auto& run : runs_) {
    use.waiting_lines += run->waiting();
    use.in_flight += run->calls();
  }
  MutexLock lock(mutex_);
  use_ = use;
}

absl::Status BatchJobs::CheckServing() const {
  return stopping_ ? absl::UnavailableError("the daemon is draining") : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BatchUpload>> BatchJobs::Begin(const std::string& tenant,
                                                              const std::string& id) {
  BASED_RETURN_IF_ERROR(CheckServing());
  if (!KnowsTenant(host_->engine, tenant)) {
    return absl::InvalidArgumentError(absl::StrCat("tenant is '", tenant, "', which is unknown"));
  }
  return store_->Begin(tenant, id, *model_);
}

absl::StatusOr<std::shared_ptr<BatchJob>> BatchJobs::Finish(const std::string& tenant,
                                                            const std::string& id,
                                                            std::unique_ptr<BatchUpload> upload) {
  auto job = store_->Finish(tenant, id, *upload, *model_);
  if (job.ok()) {
    LogJob(LogLevel::kInfo, "batch_created", **job);
    look_for_work_ = true;
  }
  return job;
}

absl::Status BatchJobs::Cancel(BatchJob& job) {
  BASED_RETURN_IF_ERROR(CheckServing());
  if (job.record().ended()) return absl::OkStatus();
  BASED_RETURN_IF_ERROR(job.End(BatchState::kCancelled));
  Unblock(job);
  LogJob(LogLevel::kInfo, "batch_cancelled", job);
  if (BatchRun* run = RunOf(job)) {
    run->Stop();
  } else {
    const auto shared = store_->Find(job.record().tenant, job.record().id);
    BASED_CHECK(shared.ok());
    unsettled_.push_back(*shared);
    look_for_work_ = true;
  }
  return absl::OkStatus();
}

void BatchJobs::Delete(std::shared_ptr<BatchJob> job, std::function<void()> done) {
  LogJob(LogLevel::kInfo, "batch_deleted", *job);
  Unblock(*job);
  if (BatchRun* run = RunOf(*job)) run->Stop();
  deleting_.emplace_back(std::move(job), std::move(done));
}

void BatchJobs::Unblock(const BatchJob& job) {
  blocked_.erase(std::remove(blocked_.begin(), blocked_.end(), &job), blocked_.end());
  loading_.erase(std::remove_if(loading_.begin(), loading_.end(),
                                [&](const auto& one) { return one.get() == &job; }),
                 loading_.end());
}

absl::StatusOr<std::shared_ptr<BatchJob>> BatchJobs::Find(const std::string& tenant,
                                                          const std::string& id) const {
  auto job = store_->Find(tenant, id);
  if (!job.ok() || !IsDeleted(**job)) return job;
  return absl::NotFoundError(absl::StrCat("the batch job '", id, "' is being deleted"));
}

bool BatchJobs::IsDeleted(const BatchJob& job) const {
  return std::any_of(deleting_.begin(), deleting_.end(),
                     [&](const auto& entry) { return entry.first.get() == &job; });
}

BatchState BatchJobs::StateOf(const BatchJob& job) const {
  const bool runs = !job.record().ended() && RunOf(job) != nullptr;
  return runs ? BatchState::kRunning : job.record().state;
}

int64_t BatchJobs::InFlight(const BatchJob& job) const {
  const BatchRun* run = RunOf(job);
  return run == nullptr ? 0 : run->calls();
}

void BatchJobs::Follow(std::function<bool()> look) { followers_.push_back(std::move(look)); }

}  // namespace based
