#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/admission.h"
#include "engine/constraint/constraint_compiler.h"
#include "engine/delivery.h"
#include "engine/echo.h"
#include "engine/engine_load.h"
#include "engine/scheduler.h"
#include "engine/session_start.h"
#include "engine/sizing.h"
#include "engine/slot_transfer.h"
#include "engine/step_cost.h"
#include "engine/validate.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr std::chrono::seconds kRetireLimit(5);

// A seed for a request that brings none.
uint64_t RandomSeed() {
  thread_local std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

int32_t DeliveryThreads(const EngineOptions& options) {
  if (options.delivery_threads > 0) return options.delivery_threads;
  return std::clamp(static_cast<int32_t>(std::thread::hardware_concurrency()) / 4, 1, 4);
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::unique_ptr<Model> model, const EngineOptions& options, int32_t slots,
             const SchedulerOptions& scheduler_options, Observer* observer)
      : options_(options),
        model_(std::move(model)),
        observer_(observer),
        slots_total_(slots),
        token_budget_(scheduler_options.token_budget),
        sessions_({.memory = options.session_memory,
                   .image_bytes = model_->executable->info().image_bytes,
                   .vocab_size = model_->config.vocab_size,
                   .max_per_tenant = options.max_sessions_per_tenant,
                   .idle_limit = options.session_idle_limit}),
        constraints_(*model_),
        admission_({.max_requests = options.max_queue, .max_tokens = options.max_queue_tokens}),
        scheduler_(scheduler_options),
        delivery_(DeliveryThreads(options), model_->tokenizer.get(), observer,
                  [this](RequestId id, int32_t index) { Stop(id, index); }) {
    cost_.SetTarget(std::chrono::duration<double>(options.itl_target).count());
    PublishCounts();
    thread_ = std::thread([this] { Run(); });
  }

  ~EngineImpl() override {
    Drain(std::chrono::milliseconds(0));
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }

  absl::StatusOr<RequestId> Submit(Request request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestId id, absl::Status status) override;
  absl::Status SetTenants(std::vector<TenantLimits> tenants) override {
    MutexLock lock(mutex_);
    return admission_.SetTenants(std::move(tenants));
  }
  std::vector<TenantUse> tenants() const override {
    MutexLock lock(mutex_);
    return admission_.use();
  }
  SessionStore* sessions() override { return &sessions_; }
  Capacity capacity() const override;
  const Model& model() const override { return *model_; }
  bool Drain(std::chrono::milliseconds limit) override;
  absl::Status health() const override {
    MutexLock lock(mutex_);
    return health_;
  }

 private:
  struct Submission {
    SequenceSpec spec;
    std::unique_ptr<DeliveryStream> stream;
  };
  struct Cancellation {
    RequestId id = 0;  // 0: every sequence
    absl::Status status;
  };
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<Cancellation> cancellations;
    std::vector<std::pair<RequestId, int32_t>> stops;  // a request's completion, or Delivery::kAll

    bool empty() const { return submissions.empty() && cancellations.empty() && stops.empty(); }
  };

  absl::StatusOr<Submission> Prepare(Request request, std::shared_ptr<TokenSink> sink);
  absl::StatusOr<std::shared_ptr<const Constraint>> CompileConstraint(const ConstraintAsk& ask);
  absl::StatusOr<RequestId> Queue(Request request, std::shared_ptr<TokenSink> sink);
  absl::Status CheckAccepting(const Request& request);
  absl::Status AdmitLocked(const std::string& tenant, Submission& submission)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAcceptingLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // From delivery: what remains is not heard by anybody.
  void Stop(RequestId id, int32_t index);
  void Run();
  bool TakeInbox(Inbox& inbox);
  void Apply(Inbox inbox);
  absl::Status Step();
  absl::Status LaunchNext(bool& launched);
  absl::Status CollectOldest();
  void FailAll(const absl::Status& status);
  void Publish(Clock::time_point when);
  void PublishCounts();
  void PublishIdle();

  struct LaunchedStep {
    StepStats stats;
    Clock::time_point launched;
  };

  const EngineOptions options_;
  const std::unique_ptr<Model> model_;
  Observer* const observer_;
  const int32_t slots_total_;
  const int32_t token_budget_;
  SessionStore sessions_;  // outlives the sequences
  ConstraintCompiler constraints_;

  mutable Mutex mutex_;
  CondVar changed_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  Admission admission_ ABSL_GUARDED_BY(mutex_);
  int32_t active_ ABSL_GUARDED_BY(mutex_) = 0;  // slots
  int32_t parked_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t park_images_ ABSL_GUARDED_BY(mutex_) = 0;
  bool idle_ ABSL_GUARDED_BY(mutex_) = true;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);

  std::atomic<RequestId> next_id_{1};

  // The engine thread's own.
  Scheduler scheduler_;
  std::deque<LaunchedStep> launched_;
  Clock::time_point last_collected_;
  StepCost cost_;
  std::vector<SchedulerEvent> events_;
  StepPlan plan_;
  StepOutput output_;

  Delivery delivery_;
  std::thread thread_;
};

absl::StatusOr<RequestId> EngineImpl::Submit(Request request, std::shared_ptr<TokenSink> sink) {
  absl::StatusOr<RequestId> id = Queue(std::move(request), std::move(sink));
  if (!id.ok() && observer_ != nullptr) observer_->OnRejected(id.status());
  return id;
}

absl::StatusOr<RequestId> EngineImpl::Queue(Request request, std::shared_ptr<TokenSink> sink) {
  BASED_RETURN_IF_ERROR(CheckAccepting(request));
  const std::string tenant = request.tenant;
  BASED_ASSIGN_OR_RETURN(Submission submission, Prepare(std::move(request), std::move(sink)));
  MutexLock lock(mutex_);
  BASED_RETURN_IF_ERROR(AdmitLocked(tenant, submission));
  const RequestId id = next_id_++;
  submission.spec.id = id;
  inbox_.submissions.push_back(std::move(submission));
  idle_ = false;
  changed_.NotifyAll();
  return id;
}

// What is refused whatever it is costs no more than this.
absl::Status EngineImpl::CheckAccepting(const Request& request) {
  MutexLock lock(mutex_);
  BASED_RETURN_IF_ERROR(CheckAcceptingLocked());
  return admission_.CheckRoom(request.tenant, request.priority == Priority::kBatch);
}

absl::Status EngineImpl::AdmitLocked(const std::string& tenant, Submission& submission) {
  BASED_RETURN_IF_ERROR(CheckAcceptingLocked());
  SequenceSpec& spec = submission.spec;
  BASED_ASSIGN_OR_RETURN(
      const AdmissionTicket ticket,
      admission_.Admit(
          {.tenant = tenant, .batch = spec.batch, .load = CostOf(spec), .deadline = spec.deadline},
          Clock::now()));
  spec.tenant = ticket.tenant;
  spec.weight = ticket.weight;
  spec.lease = ticket.lease;
  submission.stream->started.predicted_wait = ticket.predicted_wait;
  return absl::OkStatus();
}

absl::StatusOr<EngineImpl::Submission> EngineImpl::Prepare(Request request,
                                                           std::shared_ptr<TokenSink> sink) {
  if (const size_t scored = request.continuations.size(); scored > 0) {
    request.n = request.best_of = static_cast<int32_t>(scored);
  }
  BASED_RETURN_IF_ERROR(ValidateRequest(request, *model_, options_, slots_total_));
  BASED_RETURN_IF_ERROR(CheckBackend(request, model_->executable->info()));
  Submission submission;
  submission.stream = std::make_unique<DeliveryStream>(std::move(sink), request);
  DeliveryStream& stream = *submission.stream;
  stream.submitted = Clock::now();
  SequenceSpec& spec = submission.spec;
  BASED_ASSIGN_OR_RETURN(std::shared_ptr<const Constraint> constraint,
                         CompileConstraint(request.constraint));
  BASED_ASSIGN_OR_RETURN(spec.rules, MakeRules(request, *model_, std::move(constraint)));
  BASED_ASSIGN_OR_RETURN(spec.session, OpenSession(request, sessions_));
  BASED_ASSIGN_OR_RETURN(spec.prompt, PromptAfter(spec.session.get(), request, *model_, options_));
  const auto prompt_tokens = static_cast<int64_t>(spec.prompt.size());
  BASED_RETURN_IF_ERROR(CheckContinuations(request, *model_, options_, prompt_tokens));
  if (request.output.echo) {
    SetEcho(request, spec.prompt, model_->tokenizer.get(), stream);
  }
  const SamplingParams& sampling = request.sampling;
  const uint64_t seed = sampling.seed.has_value() ? *sampling.seed : RandomSeed();
  stream.started = {.seed = seed, .prompt_tokens = prompt_tokens};
  spec.sampling = {.temperature = sampling.temperature,
                   .top_k = sampling.top_k,
                   .top_p = sampling.top_p,
                   .min_p = sampling.min_p,
                   .seed = seed};
  spec.max_tokens = request.stop.max_tokens;
  spec.completions = request.best_of;
  spec.logprobs = request.output.logprobs || request.best_of > request.n;
  spec.top_logprobs = std::min(request.output.top_logprobs, model_->config.vocab_size);
  if (request.output.prompt_logprobs) spec.score_from = 1;
  if (!request.continuations.empty()) SetContinuations(std::move(request.continuations), spec);
  spec.eos_token_id = request.stop.ignore_eos ? kNone : model_->config.eos_token_id;
  spec.stop_token_ids = std::move(request.stop.token_ids);
  spec.deadline = request.deadline;
  spec.batch = request.priority == Priority::kBatch;
  spec.submitted = stream.submitted;
  spec.held_slots = std::move(request.held_slots);
  if (spec.session != nullptr) ContinueSession(request, *model_, spec, stream.started);
  return submission;
}

absl::StatusOr<std::shared_ptr<const Constraint>> EngineImpl::CompileConstraint(
    const ConstraintAsk& ask) {
  if (ask.kind == ConstraintAsk::Kind::kNothing) return std::shared_ptr<const Constraint>();
  const Clock::time_point begin = Clock::now();
  bool reused = false;
  absl::StatusOr<std::shared_ptr<const Constraint>> constraint = constraints_.Compile(ask, reused);
  if (observer_ != nullptr) {
    observer_->OnConstraint(constraint.status(), reused, Clock::now() - begin);
  }
  return constraint;
}

absl::Status EngineImpl::CheckAcceptingLocked() const {
  BASED_RETURN_IF_ERROR(health_);
  return draining_ ? absl::UnavailableError("the server is shutting down") : absl::OkStatus();
}

void EngineImpl::Cancel(RequestId id, absl::Status status) {
  MutexLock lock(mutex_);
  inbox_.cancellations.push_back({.id = id, .status = std::move(status)});
  changed_.NotifyAll();
}

void EngineImpl::Stop(RequestId id, int32_t index) {
  MutexLock lock(mutex_);
  inbox_.stops.emplace_back(id, index);
  changed_.NotifyAll();
}

Capacity EngineImpl::capacity() const {
  const ExecutableInfo& info = model_->executable->info();
  MutexLock lock(mutex_);
  const QueueLoad queued = admission_.load().queued();
  return {.slots_total = slots_total_,
          .slots_active = active_,
          .slots_free = slots_total_ - active_,
          .slot_bytes = info.slot_bytes,
          .pool_bytes = info.slot_bytes * slots_total_,
          .weight_bytes = info.weight_bytes,
          .workspace_bytes = info.workspace_bytes,
          .queued_requests = queued.requests,
          .max_queue = options_.max_queue,
          .parked = parked_,
          .park_bytes = park_images_ * info.image_bytes,
          .park_limit_bytes = options_.park_memory,
          .queued_tokens = queued.tokens(),
          .max_queue_tokens = options_.max_queue_tokens,
          .predicted_wait = admission_.predicted_wait(),
          .token_budget = token_budget_,
          .max_prompt_tokens = options_.max_prompt_tokens,
          .max_output_tokens = options_.max_output_tokens};
}

bool EngineImpl::Drain(std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  bool complete = true;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    while (!idle_ && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
    if (!idle_) {
      complete = false;
      inbox_.cancellations.push_back(
          {.id = 0, .status = absl::UnavailableError("the server is shutting down")});
      changed_.NotifyAll();
    }
    // Cut sequences end with the steps in flight; a device that hangs must not hold up the exit.
    const auto retired = Clock::now() + kRetireLimit;
    while (!idle_ && Clock::now() < retired) changed_.WaitUntil(mutex_, retired);
  }
  delivery_.Flush();
  return complete;
}

void EngineImpl::Run() {
  Inbox inbox;
  while (TakeInbox(inbox)) {
    Apply(std::move(inbox));
    inbox = Inbox();
    absl::Status status = Step();
    if (!status.ok()) FailAll(status);
    PublishIdle();
  }
}

// Waits for work; false when the engine stops and nothing is left to do.
bool EngineImpl::TakeInbox(Inbox& inbox) {
  MutexLock lock(mutex_);
  while (inbox_.empty() && scheduler_.idle()) {
    if (stopping_) return false;
    changed_.Wait(mutex_);
  }
  std::swap(inbox, inbox_);
  return true;
}

void EngineImpl::Apply(Inbox inbox) {
  for (Submission& submission : inbox.submissions) {
    delivery_.Open(submission.spec.id, std::move(submission.stream));
    scheduler_.Submit(std::move(submission.spec));
  }
  for (const auto& [id, index] : inbox.stops) {
    if (index == Delivery::kAll) {
      scheduler_.Cancel(id, absl::CancelledError("nobody hears it"), events_);
    } else {
      scheduler_.Stop(id, index);
    }
  }
  for (const Cancellation& cancellation : inbox.cancellations) {
    if (cancellation.id == 0) {
      scheduler_.CancelAll(cancellation.status, events_);
    } else {
      scheduler_.Cancel(cancellation.id, cancellation.status, events_);
    }
  }
}

// Fills the pipeline, then takes the oldest step's tokens.
absl::Status EngineImpl::Step() {
  // The scheduler plans at most one step ahead of the oldest uncommitted one.
  const size_t depth = std::clamp(model_->executable->info().pipeline_depth, 1, 2);
  bool launched = true;
  while (launched && launched_.size() < depth) BASED_RETURN_IF_ERROR(LaunchNext(launched));
  if (!launched_.empty()) return CollectOldest();
  Publish(Clock::now());
  return absl::OkStatus();
}

absl::Status EngineImpl::LaunchNext(bool& launched) {
  const Clock::time_point begin = Clock::now();
  LimitStep(cost_, scheduler_);
  scheduler_.Plan(begin, plan_, events_);
  launched = !plan_.empty();
  BASED_RETURN_IF_ERROR(PrepareSlots(plan_, *model_->executable, observer_));
  Publish(begin);
  if (!launched) return absl::OkStatus();
  LaunchedStep step;
  step.stats = StatsOf(plan_);
  step.launched = Clock::now();
  step.stats.plan = step.launched - begin;
  BASED_RETURN_IF_ERROR(model_->executable->Launch(plan_.table));
  step.stats.launch = Clock::now() - step.launched;
  launched_.push_back(step);
  return absl::OkStatus();
}

absl::Status EngineImpl::CollectOldest() {
  const Clock::time_point begin = Clock::now();
  BASED_RETURN_IF_ERROR(model_->executable->Collect(output_));
  const Clock::time_point collected = Clock::now();
  LaunchedStep step = launched_.front();
  launched_.pop_front();
  // With a step behind it in the pipeline, this one began when the one before had ended.
  const auto ran = collected - std::max(step.launched, last_collected_);
  last_collected_ = collected;
  ObserveStep(step.stats, ran, cost_);
  const int64_t forced = scheduler_.forced_tokens();
  scheduler_.Commit(output_, events_);
  BASED_RETURN_IF_ERROR(model_->executable->SupplyRules(scheduler_.LateRules()));
  step.stats.forced_tokens = static_cast<int32_t>(scheduler_.forced_tokens() - forced);
  BASED_RETURN_IF_ERROR(KeepSessions(scheduler_.TakeKept(), *model_->executable, observer_));
  Publish(collected);
  if (observer_ != nullptr) {
    step.stats.wait = collected - begin;
    step.stats.duration = collected - step.launched;
    step.stats.padded_rows = output_.padded_rows;
    step.stats.replayed = output_.replayed;
    step.stats.commit = Clock::now() - collected;
    observer_->OnStep(step.stats);
  }
  return absl::OkStatus();
}

// A device fault: nothing it holds can be trusted, so every sequence ends and no more are taken.
void EngineImpl::FailAll(const absl::Status& status) {
  const absl::Status fault =
      absl::UnavailableError(absl::StrCat("the device failed: ", status.message()));
  {
    MutexLock lock(mutex_);
    health_ = fault;
  }
  scheduler_.CancelAll(fault, events_);
  scheduler_.Abandon();
  launched_.clear();
  Publish(Clock::now());
}

// Counts go out before events: a client that hears of its end finds its slot free.
void EngineImpl::Publish(Clock::time_point when) {
  PublishCounts();
  delivery_.Push(std::exchange(events_, {}), when);
}

void EngineImpl::PublishCounts() {
  const int32_t active = scheduler_.slots().active();
  EngineLoad load = MeasureLoad(scheduler_, cost_);
  int32_t waiting = 0;
  {
    MutexLock lock(mutex_);
    for (const auto& [spec, stream] : inbox_.submissions) {
      load.Queue(spec.tenant, spec.weight, spec.batch, CostOf(spec));
    }
    waiting = load.queued().requests;
    active_ = active;
    parked_ = scheduler_.parked();
    park_images_ = scheduler_.park_images();
    admission_.SetLoad(std::move(load));
    admission_.SetServed(scheduler_.served());
  }
  if (observer_ != nullptr) observer_->OnSlots(active, slots_total_ - active, waiting);
}

// Idle only after the last event is with delivery: Drain waits for this, then for delivery.
void EngineImpl::PublishIdle() {
  MutexLock lock(mutex_);
  idle_ = scheduler_.idle() && inbox_.empty();
  if (idle_) changed_.NotifyAll();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::unique_ptr<Model> model,
                                                       const EngineOptions& options,
                                                       Observer* observer) {
  BASED_ASSIGN_OR_RETURN(const SchedulerOptions scheduler_options, SizeEngine(*model, options));
  BASED_RETURN_IF_ERROR(model->executable->CreateSlots(scheduler_options.slots));
  return std::make_unique<EngineImpl>(std::move(model), options, scheduler_options.slots,
                                      scheduler_options, observer);
}

}  // namespace based
