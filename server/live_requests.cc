#include "server/live_requests.h"

#include <atomic>
#include <deque>
#include <map>
#include <utility>

#include "kernels/base/mutex.h"
#include "server/status.h"

namespace based {
namespace {

struct Entry {
  explicit Entry(const Request& request)
      : request_id(request.request_id), tenant(request.tenant), slots(request.held_slots) {}

  const std::string request_id;
  const std::string tenant;
  const std::shared_ptr<const HeldSlots> slots;
  const Clock::time_point arrival = Clock::now();
  std::atomic<int64_t> prompt_tokens = 0;
  std::atomic<int64_t> generated_tokens = 0;  // handed over
  std::atomic<int64_t> first_token_ns = 0;    // after arrival; 0: none yet

  bool drawn() const { return first_token_ns.load(std::memory_order_relaxed) != 0; }

  LiveRequest Read(Clock::time_point now) const {
    const int64_t prompt = prompt_tokens.load(std::memory_order_relaxed);
    const int64_t generated = generated_tokens.load(std::memory_order_relaxed);
    return {.request_id = request_id,
            .tenant = tenant,
            .phase = prompt == 0 ? "queued"
                     : drawn()   ? "decode"
                                 : "prefill",
            .prompt_tokens = prompt,
            .generated_tokens = generated,
            .position = generated == 0 ? 0 : prompt + generated,
            .slots = slots->List(),
            .age = now - arrival};
  }
};

}  // namespace

class LiveRequests::Table {
 public:
  void End(uint64_t key, const Entry& entry, std::string outcome) {
    const Clock::time_point now = Clock::now();
    EndedRequest ended = {
        .request_id = entry.request_id,
        .tenant = entry.tenant,
        .outcome = std::move(outcome),
        .prompt_tokens = entry.prompt_tokens.load(std::memory_order_relaxed),
        .generated_tokens = entry.generated_tokens.load(std::memory_order_relaxed),
        .first_token =
            std::chrono::nanoseconds(entry.first_token_ns.load(std::memory_order_relaxed)),
        .total = now - entry.arrival};
    MutexLock lock(mutex_);
    entries_.erase(key);
    ended_.emplace_front(now, std::move(ended));
    if (ended_.size() > kMostEnded) ended_.pop_back();
  }
  std::vector<EndedRequest> Ended() const {
    const Clock::time_point now = Clock::now();
    std::vector<EndedRequest> list;
    MutexLock lock(mutex_);
    for (const auto& [when, ended] : ended_) {
      list.push_back(ended);
      list.back().ago = now - when;
    }
    return list;
  }
  LivePhases Phases() const {
    LivePhases phases;
    MutexLock lock(mutex_);
    for (const auto& [key, entry] : entries_) {
      const bool begun = entry->prompt_tokens.load(std::memory_order_relaxed) != 0;
      ++(!begun ? phases.queued : entry->drawn() ? phases.decode : phases.prefill);
    }
    return phases;
  }
  uint64_t Add(std::shared_ptr<const Entry> entry) {
    MutexLock lock(mutex_);
    entries_.emplace(++last_, std::move(entry));
    return last_;
  }
  void Remove(uint64_t key) {
    MutexLock lock(mutex_);
    entries_.erase(key);
  }
  std::vector<LiveRequest> List() const {
    const Clock::time_point now = Clock::now();
    std::vector<LiveRequest> list;
    MutexLock lock(mutex_);
    for (const auto& [key, entry] : entries_) list.push_back(entry->Read(now));
    return list;
  }

 private:
  mutable Mutex mutex_;
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<const Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<Clock::time_point, EndedRequest>> ended_ ABSL_GUARDED_BY(mutex_);
};

// Hands everything on. The entry goes before the end is told: whoever hears it finds it gone.
class LiveRequests::Sink final : public TokenSink {
 public:
  Sink(std::shared_ptr<Table> table, const Request& request, std::shared_ptr<TokenSink> next)
      : table_(std::move(table)),
        entry_(std::make_shared<Entry>(request)),
        next_(std::move(next)),
        key_(table_->Add(entry_)) {}
  // Of a request that was refused.
  ~Sink() override { table_->Remove(key_); }

  void OnStarted(const Started& started) override {
    entry_->prompt_tokens.store(started.prompt_tokens, std::memory_order_relaxed);
    next_->OnStarted(started);
  }
  void OnFirstToken() override {
    entry_->first_token_ns.store((Clock::now() - entry_->arrival).count(),
                                 std::memory_order_relaxed);
    next_->OnFirstToken();
  }
  bool OnDelta(Delta delta) override {
    entry_->generated_tokens.fetch_add(delta.tokens, std::memory_order_relaxed);
    return next_->OnDelta(std::move(delta));
  }
  void OnChoiceFinished(const Finished& finished) override { next_->OnChoiceFinished(finished); }
  void OnFinished(const Finished& finished) override {
    table_->End(key_, *entry_, FinishReasonName(finished.reason));
    next_->OnFinished(finished);
  }
  void OnError(const absl::Status& status) override {
    table_->End(key_, *entry_, StatusCodeName(status.code()));
    next_->OnError(status);
  }

 private:
  const std::shared_ptr<Table> table_;
  const std::shared_ptr<Entry> entry_;
  const std::shared_ptr<TokenSink> next_;
  const uint64_t key_;
};

LiveRequests::LiveRequests(Engine& engine) : engine_(engine), table_(std::make_shared<Table>()) {}
LiveRequests::~LiveRequests() = default;

std::vector<LiveRequest> LiveRequests::List() const { return table_->List(); }

LivePhases LiveRequests::Phases() const { return table_->Phases(); }

std::vector<EndedRequest> LiveRequests::Ended() const { return table_->Ended(); }

absl::StatusOr<RequestId> LiveRequests::Submit(Request request, std::shared_ptr<TokenSink> sink) {
  request.held_slots = std::make_shared<HeldSlots>();
  auto tracked = std::make_shared<Sink>(table_, request, std::move(sink));
  return engine_.Submit(std::move(request), std::move(tracked));
}

}  // namespace based
