#include "engine/delivery.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace based {

namespace {

// An echoed prompt goes out in parts of at most this many tokens or bytes.
constexpr size_t kEchoTokens = 16'384;
constexpr size_t kEchoBytes = 65'536;

// Logprobs of a Delta, alternatives included: with more it is handed over before it was due, so
// that no message outgrows what clients take by default (4 MiB).
constexpr size_t kMostLogprobs = 16'384;

bool IsFull(const Delta& delta) {
  return !delta.logprobs.empty() &&
         delta.logprobs.size() * (1 + delta.logprobs.front().alternatives.size()) >= kMostLogprobs;
}

// Bytes of at most `most` from `begin` on, whole characters.
size_t WholeCharacters(std::string_view text, size_t begin, size_t most) {
  if (text.size() - begin <= most) return text.size() - begin;
  size_t count = most;
  while (count > 0 && (static_cast<uint8_t>(text[begin + count]) & 0xc0) == 0x80) --count;
  return count;
}

void Append(Delta& to, Delta from) {
  if (to.tokens == 0) {
    to = std::move(from);
    return;
  }
  to.text += from.text;
  to.tokens += from.tokens;
  to.token_ids.insert(to.token_ids.end(), from.token_ids.begin(), from.token_ids.end());
  std::move(from.logprobs.begin(), from.logprobs.end(), std::back_inserter(to.logprobs));
}

bool Carries(const Delta& delta) {
  return !delta.text.empty() || !delta.token_ids.empty() || !delta.logprobs.empty() ||
         !delta.prompt_logprobs.empty();
}

RequestTotals TotalsOf(const DeliveryStream& stream) {
  RequestTotals totals{.completions = stream.returned, .max_tokens = stream.max_tokens};
  for (const DeliveryChoice& choice : stream.choices) {
    totals.generated_tokens += choice.generated_tokens;
  }
  return totals;
}

}  // namespace

Delivery::Delivery(int32_t threads, const Tokenizer* tokenizer, Observer* observer, Stop stop)
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
  opened_.emplace_back(id, std::move(stream));
}

void Delivery::Push(std::vector<SchedulerEvent> events, Clock::time_point when) {
  if (events.empty()) return;
  std::vector<Batch> batches(shards_.size());
  for (auto& opened : opened_) {
    batches[opened.first % shards_.size()].opened.push_back(std::move(opened));
  }
  opened_.clear();
  if (batches.size() == 1) {
    batches[0].events = std::move(events);
  } else {
    for (SchedulerEvent& event : events) {
      batches[event.id % shards_.size()].events.push_back(std::move(event));
    }
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (batches[i].events.empty() && batches[i].opened.empty()) continue;
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
  Batch batch;
  while (TakeBatch(shard, batch)) {
    Deliver(shard, batch);
    DeliverDue(shard);
    batch = Batch();
  }
}

// Waits for a batch, at most until a held Delta is due; false when the shard closes.
bool Delivery::TakeBatch(Shard& shard, Batch& batch) {
  MutexLock lock(shard.mutex);
  shard.busy = false;
  shard.changed.NotifyAll();
  while (shard.batches.empty() && !shard.closing) {
    if (shard.due.empty()) {
      shard.changed.Wait(shard.mutex);
    } else if (shard.due.begin()->when <= Clock::now()) {
      break;
    } else {
      shard.changed.WaitUntil(shard.mutex, shard.due.begin()->when);
    }
  }
  if (shard.batches.empty()) return !shard.closing;
  batch = std::move(shard.batches.front());
  shard.batches.pop_front();
  shard.busy = true;
  return true;
}

void Delivery::Deliver(Shard& shard, Batch& batch) {
  for (auto& [id, stream] : batch.opened) shard.streams.emplace(id, std::move(stream));
  DeliveryBatch together(batch.events.size());
  for (const SchedulerEvent& event : batch.events) {
    together.Next();
    const auto found = shard.streams.find(event.id);
    if (found == shard.streams.end()) continue;
    if (!HandleEvent(shard, *found->second, event, batch.when)) shard.streams.erase(found);
  }
}

void Delivery::DeliverDue(Shard& shard) {
  DeliveryBatch together(shard.due.size());
  while (!shard.due.empty() && shard.due.begin()->when <= Clock::now()) {
    together.Next();
    const Due due = *shard.due.begin();
    shard.due.erase(shard.due.begin());
    const auto found = shard.streams.find(due.id);
    if (found == shard.streams.end()) continue;
    DeliveryChoice& choice = found->second->choices[static_cast<size_t>(due.index)];
    // Sent since, and perhaps begun anew: that has a time of its own.
    if (!Carries(choice.pending) || found->second->ranks() ||
        choice.pending_since + found->second->output.delta_interval > due.when) {
      continue;
    }
    if (!Send(*found->second, due.id, std::exchange(choice.pending, Delta()))) {
      shard.streams.erase(found);
    }
  }
}

bool Delivery::HandleEvent(Shard& shard, DeliveryStream& stream, const SchedulerEvent& event,
                           Clock::time_point when) {
  switch (event.kind) {
    case SchedulerEvent::Kind::kStarted:
      return Begin(stream, event.id, when);
    case SchedulerEvent::Kind::kPrompt:
      return Send(stream, event.id, {.index = event.index, .prompt_logprobs = event.logprobs});
    case SchedulerEvent::Kind::kEnded:
      Fail(stream, event.status);
      return false;
    case SchedulerEvent::Kind::kToken:
    case SchedulerEvent::Kind::kFinished:
      return HandleToken(shard, stream, event, when);
  }
  return false;
}

// Says that the request has started and echoes its prompt.
bool Delivery::Begin(DeliveryStream& stream, RequestId id, Clock::time_point when) {
  stream.admitted = when;
  stream.sink->OnStarted(stream.started);
  for (int32_t index = 0; index < stream.returned && stream.output.echo; ++index) {
    const std::vector<int32_t>& ids = stream.echo_token_ids;
    size_t token = 0;
    size_t byte = 0;
    while (token < ids.size() || byte < stream.echo_text.size()) {
      Delta part{.index = index};
      const size_t tokens = std::min(kEchoTokens, ids.size() - token);
      const size_t bytes = WholeCharacters(stream.echo_text, byte, kEchoBytes);
      part.token_ids.assign(ids.begin() + static_cast<ptrdiff_t>(token),
                            ids.begin() + static_cast<ptrdiff_t>(token + tokens));
      part.text = stream.echo_text.substr(byte, bytes);
      token += tokens;
      byte += bytes;
      if (!Send(stream, id, std::move(part))) return false;
    }
  }
  return true;
}

bool Delivery::HandleToken(Shard& shard, DeliveryStream& stream, const SchedulerEvent& event,
                           Clock::time_point when) {
  DeliveryChoice& choice = stream.choices[static_cast<size_t>(event.index)];
  if (choice.ended) return true;  // the scheduler does not know of its end yet
  CountToken(stream, choice, event, when);
  const bool last = event.kind == SchedulerEvent::Kind::kFinished;
  const bool stopped = last && (event.reason == FinishReason::kEndOfText ||
                                event.reason == FinishReason::kStopToken);
  if (event.token == kNone) {
    return FinishChoice(stream, event.id, event.index, {.timings = {.prefill_tokens = event.fed}});
  }
  const bool visible = !stopped || stream.include_stop;
  Delta delta{.tokens = 1, .index = event.index};
  if (visible && stream.output.token_ids) delta.token_ids.push_back(event.token);
  if (visible && stream.output.logprobs) delta.logprobs = event.logprobs;
  StopMatcher::Emit emit;
  if (stream.wants_text) {
    emit = TextOf(stream, choice, event, visible);
    if (stream.output.text) delta.text = std::move(emit.text);
  }
  if (!Add(shard, stream, event.id, std::move(delta), when)) return false;
  if (emit.matched) {
    if (!last) stop_(event.id, event.index);
    return FinishChoice(stream, event.id, event.index,
                        {.reason = FinishReason::kStopString, .stop_string = *emit.matched});
  }
  if (!last) return true;
  return FinishChoice(stream, event.id, event.index,
                      {.reason = event.reason, .stop_token_id = stopped ? event.token : -1});
}

StopMatcher::Emit Delivery::TextOf(const DeliveryStream& stream, DeliveryChoice& choice,
                                   const SchedulerEvent& event, bool visible) const {
  const bool last = event.kind == SchedulerEvent::Kind::kFinished;
  std::string text;
  if (visible) text = choice.utf8.Push(tokenizer_->Bytes(event.token, /*skip_special=*/true));
  // Cut text stays a beginning of what the constraint asks for: without half a character.
  if (last && !stream.constrained) text += choice.utf8.Finish();
  // Stops are looked for in the text of the tokens after min_tokens alone.
  if (choice.generated_tokens <= stream.min_tokens) return {.text = std::move(text), .matched = {}};
  StopMatcher::Emit emit = choice.matcher.Push(text);
  if (last && !emit.matched) emit.text += choice.matcher.Finish();
  if (emit.matched && stream.include_stop) emit.text += *emit.matched;
  return emit;
}

void Delivery::CountToken(DeliveryStream& stream, DeliveryChoice& choice,
                          const SchedulerEvent& event, Clock::time_point when) {
  const bool first = choice.last_token == Clock::time_point();
  if (observer_ != nullptr && event.token != kNone) {
    if (!first) {
      observer_->OnInterToken(stream.priority, when - choice.last_token);
    } else if (event.index == 0) {
      observer_->OnFirstToken(stream.priority, when - stream.submitted);
    }
  }
  if (first) choice.first_token = when;
  choice.last_token = when;
  if (event.token == kNone) return;
  if (!std::exchange(stream.drawn, true)) stream.sink->OnFirstToken();
  ++choice.generated_tokens;
  if (!event.logprobs.empty()) choice.cumulative_logprob += event.logprobs.front().logprob;
}

// Hands the Delta over, or holds it back as the stream's shape asks.
bool Delivery::Add(Shard& shard, DeliveryStream& stream, RequestId id, Delta delta,
                   Clock::time_point when) {
  DeliveryChoice& choice = stream.choices[static_cast<size_t>(delta.index)];
  const int32_t index = delta.index;
  const bool begins = choice.pending.tokens == 0;
  if (begins) choice.pending_since = when;
  Append(choice.pending, std::move(delta));
  const OutputOptions& output = stream.output;
  const bool by_time = output.delta_interval.count() > 0;
  const Clock::time_point due = choice.pending_since + output.delta_interval;
  if (by_time && begins) shard.due.insert({due, id, index});
  if (stream.ranks()) {
    if (IsFull(choice.pending)) choice.full.push_back(std::exchange(choice.pending, Delta()));
    return true;
  }
  if (!Carries(choice.pending)) return true;
  const bool by_count = output.tokens_per_message > 0 || !by_time;
  const bool full = by_count && choice.pending.tokens >= output.tokens_per_message;
  if (full || IsFull(choice.pending) || (by_time && when >= due)) {
    return Send(stream, id, std::exchange(choice.pending, Delta()));
  }
  return true;
}

bool Delivery::Send(DeliveryStream& stream, RequestId id, Delta delta) {
  if (!Carries(delta)) return true;
  if (stream.sink->OnDelta(std::move(delta))) return true;
  Fail(stream, absl::ResourceExhaustedError(
                   "the stream's queue is full: the client reads more slowly than tokens come"));
  stop_(id, kAll);
  return false;
}

bool Delivery::FinishChoice(DeliveryStream& stream, RequestId id, int32_t index,
                            Finished finished) {
  DeliveryChoice& choice = stream.choices[static_cast<size_t>(index)];
  finished.index = index;
  finished.seed = stream.started.seed + static_cast<uint64_t>(index);
  finished.prompt_tokens = stream.started.prompt_tokens;
  finished.reused_tokens = stream.started.reused_tokens;
  finished.generated_tokens = choice.generated_tokens;
  finished.cumulative_logprob = choice.cumulative_logprob;
  finished.timings = {.queue = stream.admitted - stream.submitted,
                      .prefill = choice.first_token - stream.admitted,
                      .decode = choice.last_token - choice.first_token,
                      .prefill_tokens = stream.max_tokens == 0
                                            ? finished.timings.prefill_tokens
                                            : finished.prompt_tokens - finished.reused_tokens,
                      .decode_tokens = std::max<int64_t>(0, choice.generated_tokens - 1)};
  if (stream.has_session) {
    const bool is_stop =
        finished.reason == FinishReason::kEndOfText || finished.reason == FinishReason::kStopToken;
    finished.session_tokens = finished.prompt_tokens + finished.generated_tokens -
                              (is_stop && !stream.include_stop ? 1 : 0);
  }
  choice.ended = true;
  choice.finished = std::move(finished);
  --stream.open;
  if (stream.ranks()) return stream.open > 0 || FinishRanked(stream, id);
  choice.pending.ends = stream.open == 0;
  if (!Send(stream, id, std::exchange(choice.pending, Delta()))) return false;
  if (stream.open == 0) {
    End(stream, choice.finished);
    return false;
  }
  stream.sink->OnChoiceFinished(choice.finished);
  return true;
}

// Hands over the most likely completions, best first. Always returns false: the stream has ended.
bool Delivery::FinishRanked(DeliveryStream& stream, RequestId id) {
  std::vector<DeliveryChoice*> order;
  for (DeliveryChoice& choice : stream.choices) order.push_back(&choice);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->cumulative_logprob > b->cumulative_logprob;
  });
  for (int32_t rank = 0; rank < stream.returned; ++rank) {
    DeliveryChoice& choice = *order[static_cast<size_t>(rank)];
    for (Delta& delta : choice.full) {
      delta.index = rank;
      if (!Send(stream, id, std::move(delta))) return false;
    }
    choice.pending.index = rank;
    choice.finished.index = rank;
    if (!Send(stream, id, std::move(choice.pending))) return false;
    if (rank + 1 < stream.returned) {
      stream.sink->OnChoiceFinished(choice.finished);
    } else {
      End(stream, choice.finished);
    }
  }
  return false;
}

void Delivery::End(DeliveryStream& stream, const Finished& finished) {
  if (observer_ != nullptr) {
    observer_->OnFinished(stream.priority, finished);
    if (stream.max_tokens > 0) observer_->OnTotals(TotalsOf(stream));
  }
  stream.sink->OnFinished(finished);
}

void Delivery::Fail(DeliveryStream& stream, const absl::Status& status) {
  if (observer_ != nullptr) observer_->OnError(status);
  stream.sink->OnError(status);
}

}  // namespace based
