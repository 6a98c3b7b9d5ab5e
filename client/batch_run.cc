#include "client/batch_run.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "based/v1/model.grpc.pb.h"
#include "client/batch_call.h"
#include "client/batch_input.h"
#include "client/batch_outcome.h"
#include "client/batch_window.h"
#include "client/remote.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kUnaryTimeout(10);
constexpr std::chrono::milliseconds kTick(100);
constexpr std::chrono::seconds kSyncInterval(1);
constexpr std::chrono::milliseconds kFailurePause(200);
constexpr int32_t kMostInFlight = 65'536;
// As the proto's limit; a whole completion then comes in few messages.
constexpr int32_t kTokensPerMessage = 65'536;

// gRPC waits up to two minutes between connects; here the window decides when to try.
void ConnectNow(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::experimental::ChannelResetConnectionBackoff(channel.get());
}

// No line can succeed where one fails with these.
bool EndsTheRun(absl::StatusCode code) {
  return code == absl::StatusCode::kUnauthenticated ||
         code == absl::StatusCode::kPermissionDenied || code == absl::StatusCode::kNotFound;
}

// The same call may succeed another time.
bool MayPass(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

class BatchRun {
 public:
  BatchRun(std::shared_ptr<grpc::Channel> channel, const BatchDaemon& daemon, const BatchPlan& plan,
           const BatchRunOptions& options, BatchJournal& journal)
      : channel_(std::move(channel)),
        stub_(v1::CompletionService::NewStub(channel_)),
        plan_(plan),
        options_(options),
        journal_(journal),
        frame_{.input = plan.digest(),
               .model = daemon.model,
               .fingerprint =
                   absl::StrCat("based-", daemon.version, "-", daemon.model_digest.substr(0, 12)),
               .has_tokenizer = daemon.has_tokenizer,
               .created = std::chrono::duration_cast<std::chrono::seconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count()},
        window_(MostInFlight(daemon, options), Clock::now()),
        printer_(options.quiet) {
    for (const int32_t entry : plan.Order()) {
      if (journal.Has(static_cast<size_t>(entry))) continue;
      waiting_.push_back(static_cast<size_t>(entry));
      progress_.work_left += plan.entries()[static_cast<size_t>(entry)].work;
    }
    progress_.lines = static_cast<int64_t>(plan.entries().size());
  }

  absl::Status Run() {
    const absl::Status status = Loop();
    for (auto& [call, owned] : calls_) call->Cancel();
    while (!calls_.empty()) {
      if (heard_.empty()) Hear(Clock::now() + kTick);
      for (const BatchEvents::Event& event : heard_) {
        if (event.ended) calls_.erase(event.call);
      }
      heard_.clear();
    }
    printer_.Finish(Progress());
    const absl::Status synced = journal_.Sync();
    return status.ok() ? synced : status;
  }

 private:
  static int32_t MostInFlight(const BatchDaemon& daemon, const BatchRunOptions& options) {
    if (options.concurrency > 0) return std::min(options.concurrency, kMostInFlight);
    // A few wait in the daemon, so that a slot that falls free is taken by its next step.
    const int32_t waiting = std::min(std::max(daemon.slots / 8, 4), daemon.max_queue);
    return std::clamp(daemon.slots + waiting, 1, kMostInFlight);
  }

  absl::Status Loop() {
    Clock::time_point next_sync = started_ + kSyncInterval;
    while (journal_.finished() < progress_.lines) {
      const Clock::time_point now = Clock::now();
      BASED_RETURN_IF_ERROR(SendWhatMay(now));
      BASED_RETURN_IF_ERROR(CheckContact(now));
      const bool gated = !waiting_.empty() && window_.gate() > now;
      const Clock::time_point wake = gated ? std::min(window_.gate(), now + kTick) : now + kTick;
      Hear(wake);
      while (!heard_.empty()) {
        const BatchEvents::Event event = heard_.front();
        heard_.pop_front();
        BASED_RETURN_IF_ERROR(Handle(event));
      }
      if (now >= next_sync) {
        BASED_RETURN_IF_ERROR(journal_.Sync());
        next_sync = now + kSyncInterval;
      }
      printer_.Print(Progress());
    }
    return absl::OkStatus();
  }

  void Hear(Clock::time_point deadline) {
    for (const BatchEvents::Event& event : events_.Take(deadline)) heard_.push_back(event);
  }

  absl::Status SendWhatMay(Clock::time_point now) {
    while (!waiting_.empty()) {
      const size_t entry = waiting_.front();
      const int32_t sequences = plan_.entries()[entry].sequences;
      if (!window_.MaySend(now, in_flight_, sequences)) break;
      waiting_.pop_front();
      BASED_ASSIGN_OR_RETURN(BatchLine line, LineOf(plan_, entry));
      if (!options_.model.empty()) line.request.set_model(options_.model);
      line.request.set_priority(options_.interactive ? v1::PRIORITY_INTERACTIVE
                                                     : v1::PRIORITY_BATCH);
      line.request.mutable_output()->set_tokens_per_message(kTokensPerMessage);
      if (window_.lost()) ConnectNow(channel_);
      auto call = std::make_unique<BatchCall>(entry, std::move(line), events_);
      BatchCall* const started = call.get();
      calls_.emplace(started, std::move(call));
      in_flight_ += sequences;
      started->Start(*stub_, options_.line_timeout);
    }
    return absl::OkStatus();
  }

  absl::Status CheckContact(Clock::time_point now) {
    if (now - std::max(window_.contact(), answered_) < options_.daemon_wait) {
      return absl::OkStatus();
    }
    // Calls may run, or wait in the daemon's queue, for long, as long as it lives.
    if ((admitted_ > 0 || !troubled_) && Answers()) {
      answered_ = now;
      return absl::OkStatus();
    }
    return absl::UnavailableError(absl::StrCat("the daemon has taken nothing for ",
                                               options_.daemon_wait.count(),
                                               " s (--daemon_wait): ", last_failure_));
  }

  bool Answers() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kUnaryTimeout);
    v1::GetCapacityResponse capacity;
    return v1::ModelService::NewStub(channel_)->GetCapacity(&context, {}, &capacity).ok();
  }

  absl::Status Handle(const BatchEvents::Event& event) {
    if (!event.ended) {
      event.call->set_admitted();
      ++admitted_;
      troubled_ = false;
      window_.Admitted(Clock::now());
      return absl::OkStatus();
    }
    auto ended = calls_.extract(event.call);
    BatchCall& call = *ended.mapped();
    in_flight_ -= plan_.entries()[call.entry()].sequences;
    admitted_ -= call.admitted();
    BatchOutcome& outcome = call.outcome();
    if (outcome.status.ok()) {
      window_.Succeeded(Clock::now());
      return Keep(call);
    }
    if (EndsTheRun(outcome.status.code())) {
      return absl::Status(outcome.status.code(), outcome.status.message());
    }
    if (MayPass(outcome.status.code()) && TryAgain(call)) return absl::OkStatus();
    if (!MayPass(outcome.status.code())) window_.Admitted(Clock::now());  // it is there and judges
    return Keep(call);
  }

  // False when the line has had its tries.
  bool TryAgain(BatchCall& call) {
    const Clock::time_point now = Clock::now();
    const absl::Status& status = call.outcome().status;
    last_failure_ = status.ToString();
    troubled_ = true;
    const auto pushback = call.pushback();
    // What the daemon never began, or asks to send again, is limited by daemon_wait alone.
    const bool counts = call.admitted() || (!pushback && !absl::IsUnavailable(status));
    if (counts && ++attempts_[call.entry()] >= options_.attempts) return false;
    if (absl::IsUnavailable(status)) {
      window_.Lost(now, call.sent());
    }
    if (!absl::IsUnavailable(status) || pushback) {
      window_.Refused(now, in_flight_, pushback.value_or(kFailurePause));
    }
    waiting_.push_front(call.entry());
    return true;
  }

  absl::Status Keep(BatchCall& call) {
    BatchOutcome& outcome = call.outcome();
    const BatchEntry& entry = plan_.entries()[call.entry()];
    outcome.status = InOpenAiNames(outcome.status, call.line().names);
    if (const auto tried = attempts_.find(call.entry());
        !outcome.status.ok() && tried != attempts_.end()) {
      outcome.status =
          absl::Status(outcome.status.code(),
                       absl::StrCat(outcome.status.message(), " (", tried->second, " attempts)"));
    }
    ++progress_.finished_now;
    progress_.tokens_now += outcome.generated_tokens;
    progress_.work_now += entry.work;
    progress_.work_left -= entry.work;
    return journal_.Append(call.entry(), !outcome.status.ok(),
                           BatchOutcomeJson(frame_, call.line(), entry.line, outcome));
  }

  BatchProgress Progress() {
    progress_.finished = journal_.finished();
    progress_.failed = journal_.failed();
    progress_.in_flight = static_cast<int64_t>(calls_.size());
    progress_.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    progress_.waiting = window_.lost();
    return progress_;
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::CompletionService::Stub> stub_;
  const BatchPlan& plan_;
  const BatchRunOptions& options_;
  BatchJournal& journal_;
  const BatchResultFrame frame_;
  const Clock::time_point started_ = Clock::now();
  BatchWindow window_;
  Clock::time_point answered_;  // when the daemon last said that it lives
  ProgressPrinter printer_;
  BatchProgress progress_;

  std::deque<size_t> waiting_;                    // entries in the order to send them
  std::unordered_map<size_t, int32_t> attempts_;  // of entries that have failed
  int64_t in_flight_ = 0;                         // sequences
  int64_t admitted_ = 0;                          // calls that the daemon has taken
  bool troubled_ = false;                         // refused or lost, and nothing taken since
  std::string last_failure_ = "no answer";
  BatchEvents events_;
  std::deque<BatchEvents::Event> heard_;  // taken from events_, to be handled
  std::unordered_map<BatchCall*, std::unique_ptr<BatchCall>> calls_;
};

}  // namespace

absl::StatusOr<BatchDaemon> FindBatchDaemon(const std::shared_ptr<grpc::Channel>& channel,
                                            const std::string& model,
                                            const BatchRunOptions& options) {
  const auto stub = v1::ModelService::NewStub(channel);
  v1::GetModelRequest model_request;
  model_request.set_model(options.model.empty() ? model : options.model);
  v1::GetCapacityRequest capacity_request;
  v1::GetModelResponse found;
  v1::GetCapacityResponse capacity;
  const Clock::time_point give_up = Clock::now() + options.daemon_wait;
  while (true) {
    ConnectNow(channel);
    grpc::ClientContext model_context, capacity_context;
    const auto limit = std::min<Clock::duration>(kUnaryTimeout, give_up - Clock::now());
    const auto deadline = std::chrono::system_clock::now() + limit;
    for (grpc::ClientContext* context : {&model_context, &capacity_context}) {
      context->set_deadline(deadline);
      context->set_wait_for_ready(true);
    }
    grpc::Status status = stub->GetModel(&model_context, model_request, &found);
    if (status.ok()) status = stub->GetCapacity(&capacity_context, capacity_request, &capacity);
    if (status.ok()) break;
    const bool again = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                       status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (!again) return FromGrpc(status);
    if (Clock::now() >= give_up) {
      return FromGrpc(grpc::Status(
          grpc::StatusCode::UNAVAILABLE,
          absl::StrCat("no answer within ", options.daemon_wait.count(), " s (--daemon_wait)")));
    }
    std::this_thread::sleep_for(kFailurePause);
  }
  return BatchDaemon{.model = found.name(),
                     .model_digest = found.digest(),
                     .version = found.server_version(),
                     .has_tokenizer = found.has_tokenizer(),
                     .chat = found.chat(),
                     .slots = capacity.slots_total(),
                     .max_queue = capacity.max_queue()};
}

absl::Status RunBatch(const std::shared_ptr<grpc::Channel>& channel, const BatchDaemon& daemon,
                      const BatchPlan& plan, const BatchRunOptions& options,
                      BatchJournal& journal) {
  return BatchRun(channel, daemon, plan, options, journal).Run();
}

}  // namespace based
