#include "tests/server/fake_engine.h"

#include <utility>

namespace based {
namespace {

constexpr std::chrono::seconds kWaitLimit{10};

// Two ids: 0 is "a", 1 is the first byte of a two-byte character.
class FakeTokenizer final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    return std::vector<int32_t>(text.size(), 0);
  }
  std::string_view Bytes(int32_t id, bool) const override { return id == 0 ? "a" : "\xC3"; }
  int32_t size() const override { return 2; }
};

class FakeExecutable final : public Executable {
 public:
  FakeExecutable() {
    info_.backend = "reference";
    info_.device = "none";
  }
  const ExecutableInfo& info() const override { return info_; }
  absl::Status CreateSlots(int32_t) override { return absl::OkStatus(); }
  absl::Status Launch(const StepTable&) override { return absl::OkStatus(); }
  absl::Status Collect(StepOutput&) override { return absl::OkStatus(); }
  absl::Status ClearSlots(absl::Span<const int32_t>) override { return absl::OkStatus(); }
  absl::Status CopySlots(absl::Span<const SlotCopy>) override { return absl::OkStatus(); }
  absl::Status ExportSlot(int32_t, int64_t, absl::Span<std::byte>) override {
    return absl::OkStatus();
  }
  absl::Status ImportSlot(int32_t, int64_t, absl::Span<const std::byte>) override {
    return absl::OkStatus();
  }

 private:
  ExecutableInfo info_;
};

}  // namespace

FakeEngine::FakeEngine(FakeEngineOptions options, Observer* observer)
    : options_(std::move(options)), observer_(observer), held_(options_.hold) {
  model_.name = "fake";
  model_.config.vocab_size = 100;
  model_.config.eos_token_id = 0;
  model_.config.layers = {Mixer::kConv, Mixer::kLinearAttention, Mixer::kSlidingWindow};
  model_.executable = std::make_unique<FakeExecutable>();
  if (options_.tokenizer) model_.tokenizer = std::make_unique<FakeTokenizer>();
  thread_ = std::thread([this] { Run(); });
}

FakeEngine::~FakeEngine() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

absl::StatusOr<RequestId> FakeEngine::Submit(Request request, std::shared_ptr<TokenSink> sink) {
  MutexLock lock(mutex_);
  absl::Status reject = options_.reject;
  if (draining_) reject = absl::UnavailableError("the daemon is draining");
  if (!reject.ok()) {
    if (observer_ != nullptr) observer_->OnRejected(reject);
    return reject;
  }
  const RequestId id = next_id_++;
  requests_.push_back(request);
  auto sequence = std::make_unique<Sequence>();
  sequence->request = std::move(request);
  sequence->sink = std::move(sink);
  sequences_[id] = std::move(sequence);
  changed_.NotifyAll();
  return id;
}

void FakeEngine::Cancel(RequestId id, absl::Status status) {
  MutexLock lock(mutex_);
  cancels_.push_back(status);
  if (const auto found = sequences_.find(id); found != sequences_.end()) {
    found->second->end = std::move(status);
  }
  changed_.NotifyAll();
}

absl::Status FakeEngine::SetTenants(std::vector<TenantLimits> tenants) {
  MutexLock lock(mutex_);
  tenants_ = std::move(tenants);
  return absl::OkStatus();
}

std::vector<TenantUse> FakeEngine::tenants() const {
  MutexLock lock(mutex_);
  std::vector<TenantUse> use = {{.name = ""}};
  for (const TenantLimits& limits : tenants_) use.push_back({.name = limits.name});
  return use;
}

std::vector<TenantLimits> FakeEngine::limits() const {
  MutexLock lock(mutex_);
  return tenants_;
}

Capacity FakeEngine::capacity() const {
  MutexLock lock(mutex_);
  Capacity capacity;
  capacity.slots_total = 8;
  capacity.slots_active = static_cast<int32_t>(sequences_.size());
  capacity.slots_free = capacity.slots_total - capacity.slots_active;
  capacity.slot_bytes = 1000;
  capacity.pool_bytes = 8000;
  return capacity;
}

bool FakeEngine::Drain(std::chrono::milliseconds limit) {
  const Clock::time_point end = Clock::now() + limit;
  MutexLock lock(mutex_);
  draining_ = true;
  while (!sequences_.empty() && Clock::now() < end) changed_.WaitUntil(mutex_, end);
  const bool complete = sequences_.empty();
  for (auto& [id, sequence] : sequences_) {
    sequence->end = absl::UnavailableError("cut by the drain");
  }
  changed_.NotifyAll();
  while (!sequences_.empty()) changed_.Wait(mutex_);
  return complete;
}

void FakeEngine::Release() {
  MutexLock lock(mutex_);
  held_ = false;
  changed_.NotifyAll();
}

bool FakeEngine::WaitForCancels(size_t count) {
  const Clock::time_point end = Clock::now() + kWaitLimit;
  MutexLock lock(mutex_);
  while (cancels_.size() < count && Clock::now() < end) changed_.WaitUntil(mutex_, end);
  return cancels_.size() >= count;
}

bool FakeEngine::WaitForEnds(size_t count) {
  const Clock::time_point end = Clock::now() + kWaitLimit;
  MutexLock lock(mutex_);
  while (ends_.size() < count && Clock::now() < end) changed_.WaitUntil(mutex_, end);
  return ends_.size() >= count;
}

std::vector<Request> FakeEngine::requests() const {
  MutexLock lock(mutex_);
  return requests_;
}

std::vector<absl::Status> FakeEngine::cancels() const {
  MutexLock lock(mutex_);
  return cancels_;
}

std::vector<absl::Status> FakeEngine::ends() const {
  MutexLock lock(mutex_);
  return ends_;
}

void FakeEngine::Run() {
  mutex_.Lock();
  while (!closing_) {
    bool moved = false;
    for (auto it = sequences_.begin(); it != sequences_.end();) {
      Sequence& sequence = *it->second;
      const absl::Status end = sequence.end;
      const bool may_emit = !held_;
      if (end.ok() && !may_emit && sequence.started) {
        ++it;
        continue;
      }
      moved = true;
      absl::Status result;
      mutex_.Unlock();
      const bool over = Advance(sequence, end, may_emit, result);
      mutex_.Lock();
      if (over) ends_.push_back(result);
      it = over ? sequences_.erase(it) : std::next(it);
      if (over) changed_.NotifyAll();
    }
    if (!moved && !closing_) changed_.Wait(mutex_);
  }
  mutex_.Unlock();
}

bool FakeEngine::Advance(Sequence& sequence, const absl::Status& end, bool may_emit,
                         absl::Status& result) {
  if (!sequence.started) {
    sequence.started = true;
    sequence.sink->OnStarted({.seed = sequence.request.sampling.seed.value_or(7),
                              .prompt_tokens = 3});
  }
  result = end;
  if (result.ok() && may_emit) {
    Delta delta{.text = sequence.request.output.text ? options_.token_text : "",
                .token_ids = {static_cast<int32_t>(sequence.tokens % 100)},
                .tokens = 1};
    if (!sequence.sink->OnDelta(std::move(delta))) {
      result = absl::ResourceExhaustedError("the reader is too slow");
    } else if (++sequence.tokens == sequence.request.stop.max_tokens) {
      Finished finished;
      finished.prompt_tokens = 3;
      finished.generated_tokens = sequence.tokens;
      finished.timings.prefill = std::chrono::milliseconds(2);
      sequence.sink->OnFinished(finished);
      if (observer_ != nullptr) observer_->OnFinished(sequence.request.priority, finished);
      return true;
    }
  }
  if (result.ok()) return false;
  if (observer_ != nullptr) observer_->OnError(result);
  sequence.sink->OnError(result);
  return true;
}

}  // namespace based
