#include "engine/delivery.h"

#include <utility>

namespace based {

Delivery::Delivery(int32_t threads, const Tokenizer* tokenizer, Observer* observer,
                   std::function<void(RequestId)> stop)
    : tokenizer_(tokenizer), observer_(observer), stop_(std::move(stop)) {
  BASED_CHECK(threads >= 1);
  for (int32_t i = 0; i < threads; ++i) shards_.push_back(std::make_unique<Shard>());
  for (auto& shard : shards_) {
    shard->thread = std::thread([this, raw = shard.get()] { Run(*raw); });
  }
}

Delivery::~Delivery() {
  for (auto& shard : shards_) {
    MutexLock lock(shard->mutex);
    shard->closing = true;
    shard->changed.NotifyAll();
  }
  for (auto& shard : shards_) shard->thread.join();
}

void Delivery::Open(RequestId id, std::unique_ptr<DeliveryStream> stream) {
  Batch batch;
  batch.opened.emplace_back(id, std::move(stream));
  Enqueue(ShardOf(id), std::move(batch));
}

void Delivery::Push(const std::vector<SchedulerEvent>& events, Clock::time_point when) {
  if (events.empty()) return;
  std::vector<Batch> batches(shards_.size());
  for (const SchedulerEvent& event : events) {
    batches[event.id % shards_.size()].events.push_back(event);
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (batches[i].events.empty()) continue;
    batches[i].when = when;
    Enqueue(*shards_[i], std::move(batches[i]));
  }
}

void Delivery::Enqueue(Shard& shard, Batch batch) {
  MutexLock lock(shard.mutex);
  // Sinks never block, so a full shard is a busy one: it makes room within its next batches.
  while (shard.batches.size() >= kMaxBatches) shard.changed.Wait(shard.mutex);
  shard.batches.push_back(std::move(batch));
  shard.changed.NotifyAll();
}

void Delivery::Flush() {
  for (auto& shard : shards_) {
    MutexLock lock(shard->mutex);
    while (shard->busy || !shard->batches.empty()) shard->changed.Wait(shard->mutex);
  }
}

void Delivery::Run(Shard& shard) {
  for (;;) {
    Batch batch;
    {
      MutexLock lock(shard.mutex);
      shard.busy = false;
      shard.changed.NotifyAll();
      while (shard.batches.empty() && !shard.closing) shard.changed.Wait(shard.mutex);
      if (shard.batches.empty()) return;
      batch = std::move(shard.batches.front());
      shard.batches.pop_front();
      shard.busy = true;
    }
    Deliver(shard, batch);
  }
}

void Delivery::Deliver(Shard& shard, Batch& batch) {
  for (auto& [id, stream] : batch.opened) shard.streams.emplace(id, std::move(stream));
  for (const SchedulerEvent& event : batch.events) {
    const auto found = shard.streams.find(event.id);
    if (found == shard.streams.end()) continue;
    if (!HandleEvent(*found->second, event, batch.when)) shard.streams.erase(found);
  }
}

// Returns false when the stream has ended.
bool Delivery::HandleEvent(DeliveryStream& stream, const SchedulerEvent& event,
                           Clock::time_point when) {
  switch (event.kind) {
    case SchedulerEvent::Kind::kStarted:
      stream.admitted = when;
      stream.sink->OnStarted(stream.started);
      return true;
    case SchedulerEvent::Kind::kEnded:
      Fail(stream, event.status);
      return false;
    case SchedulerEvent::Kind::kToken:
    case SchedulerEvent::Kind::kFinished:
      return HandleToken(stream, event, when);
  }
  return false;
}

bool Delivery::HandleToken(DeliveryStream& stream, const SchedulerEvent& event,
                           Clock::time_point when) {
  CountToken(stream, when);
  const bool last = event.kind == SchedulerEvent::Kind::kFinished;
  const bool visible = !last || event.reason == FinishReason::kMaxTokens;
  Delta delta{.tokens = 1};
  StopMatcher::Emit emit;
  if (visible && stream.output.token_ids) delta.token_ids.push_back(event.token);
  if (stream.wants_text) {
    std::string text;
    if (visible) text = stream.utf8.Push(tokenizer_->Bytes(event.token, /*skip_special=*/true));
    if (last) text += stream.utf8.Finish();
    emit = stream.matcher.Push(text);
    if (last && !emit.matched) emit.text += stream.matcher.Finish();
    if (stream.output.text) delta.text = std::move(emit.text);
  }
  if (!SendDelta(stream, event.id, std::move(delta))) return false;
  if (emit.matched) {
    Finish(stream, {.reason = FinishReason::kStopString, .stop_string = *emit.matched});
    if (!last) stop_(event.id);
    return false;
  }
  if (!last) return true;
  const bool stopped = event.reason != FinishReason::kMaxTokens;
  Finish(stream, {.reason = event.reason, .stop_token_id = stopped ? event.token : -1});
  return false;
}

void Delivery::CountToken(DeliveryStream& stream, Clock::time_point when) {
  const bool first = stream.generated_tokens == 0;
  if (observer_ != nullptr) {
    if (first) {
      observer_->OnFirstToken(when - stream.submitted);
    } else {
      observer_->OnInterToken(when - stream.last_token);
    }
  }
  if (first) stream.first_token = when;
  stream.last_token = when;
  ++stream.generated_tokens;
}

bool Delivery::SendDelta(DeliveryStream& stream, RequestId id, Delta delta) {
  if (delta.text.empty() && delta.token_ids.empty()) return true;
  if (stream.sink->OnDelta(std::move(delta))) return true;
  Fail(stream, absl::ResourceExhaustedError(
                   "the stream's queue is full: the client reads more slowly than tokens come"));
  stop_(id);
  return false;
}

void Delivery::Finish(DeliveryStream& stream, Finished finished) {
  finished.prompt_tokens = stream.started.prompt_tokens;
  finished.generated_tokens = stream.generated_tokens;
  finished.timings = {.queue = stream.admitted - stream.submitted,
                      .prefill = stream.first_token - stream.admitted,
                      .decode = stream.last_token - stream.first_token};
  if (observer_ != nullptr) observer_->OnFinished(finished);
  stream.sink->OnFinished(finished);
}

void Delivery::Fail(DeliveryStream& stream, const absl::Status& status) {
  if (observer_ != nullptr) observer_->OnError(status);
  stream.sink->OnError(status);
}

}  // namespace based
