// Turns drawn ids into text and hands it to the sinks, off the engine thread. A request belongs to
// one shard (id modulo threads), so its sink hears everything in order from one thread.
#ifndef BASED_ENGINE_DELIVERY_H_
#define BASED_ENGINE_DELIVERY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/delivery_batch.h"
#include "engine/observer.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/stop_matcher.h"
#include "engine/tokenizer.h"
#include "kernels/base/mutex.h"

namespace based {

// What delivery keeps of one completion.
struct DeliveryChoice {
  explicit DeliveryChoice(const StopConditions& stop) : matcher(stop.strings) {}

  StopMatcher matcher;
  Utf8Stream utf8;
  Clock::time_point first_token;
  Clock::time_point last_token;
  int64_t generated_tokens = 0;
  double cumulative_logprob = 0;
  bool ended = false;
  std::vector<Delta> full;          // not handed over yet, of completions that are ranked
  Delta pending;                    // comes after those
  Clock::time_point pending_since;  // meaningful where pending holds tokens
  Finished finished;                // meaningful once ended
};

// What delivery keeps of one request.
struct DeliveryStream {
  DeliveryStream(std::shared_ptr<TokenSink> token_sink, const Request& request)
      : sink(std::move(token_sink)),
        output(request.output),
        min_tokens(request.stop.min_tokens),
        max_tokens(request.continuations.empty() ? request.stop.max_tokens : 0),
        include_stop(request.stop.include_stop),
        has_session(!request.session.id.empty()),
        constrained(request.constraint.kind != ConstraintAsk::Kind::kNothing),
        wants_text(request.output.text || !request.stop.strings.empty()),
        priority(request.priority),
        returned(request.n),
        open(request.best_of) {
    for (int32_t i = 0; i < request.best_of; ++i) choices.emplace_back(request.stop);
  }

  // Which completions are returned is known when all have ended.
  bool ranks() const { return static_cast<size_t>(returned) < choices.size(); }

  std::shared_ptr<TokenSink> sink;
  OutputOptions output;
  int64_t min_tokens;
  int64_t max_tokens;  // 0: it only scores
  bool include_stop;
  bool has_session;
  bool constrained;
  bool wants_text;  // detokenize: for the client or for stop strings
  Priority priority;
  bool drawn = false;  // a first token
  std::vector<DeliveryChoice> choices;
  int32_t returned;       // completions
  int32_t open;           // completions that have not ended
  std::string echo_text;  // the prompt, if asked for
  std::vector<int32_t> echo_token_ids;
  Started started;
  Clock::time_point submitted;
  Clock::time_point admitted;
};

class Delivery {
 public:
  // `stop` is called from a delivery thread when a stop string ended a completion, or with kAll
  // when nobody hears the request any more: it need not run on. `tokenizer` and `observer` may be
  // null and must outlive this object.
  static constexpr int32_t kAll = -1;
  using Stop = std::function<void(RequestId, int32_t index)>;
  Delivery(int32_t threads, const Tokenizer* tokenizer, Observer* observer, Stop stop);
  // Delivers what is queued, then ends the threads. Streams still open hear nothing more.
  ~Delivery();

  // Both from the engine thread. Open comes before any event of `id`; events of unknown ids are
  // dropped (their stream ended on a stop string). Waits when a shard is kMaxBatches behind.
  void Open(RequestId id, std::unique_ptr<DeliveryStream> stream);
  void Push(std::vector<SchedulerEvent> events, Clock::time_point when);

  // Returns when everything pushed so far has been delivered.
  void Flush();

 private:
  static constexpr size_t kMaxBatches = 1024;

  struct Batch {
    Clock::time_point when;
    std::vector<std::pair<RequestId, std::unique_ptr<DeliveryStream>>> opened;
    std::vector<SchedulerEvent> events;
  };

  struct Due {
    Clock::time_point when;
    RequestId id = 0;
    int32_t index = 0;
    auto operator<=>(const Due&) const = default;
  };

  struct Shard {
    Mutex mutex;
    CondVar changed;
    std::deque<Batch> batches ABSL_GUARDED_BY(mutex);
    bool busy ABSL_GUARDED_BY(mutex) = false;
    bool closing ABSL_GUARDED_BY(mutex) = false;
    // Its thread only.
    absl::flat_hash_map<RequestId, std::unique_ptr<DeliveryStream>> streams;
    std::set<Due> due;  // completions with a pending Delta that goes out at this time
    std::thread thread;
  };

  void Enqueue(Shard& shard, Batch batch);
  void Run(Shard& shard);
  bool TakeBatch(Shard& shard, Batch& batch);
  void Deliver(Shard& shard, Batch& batch);
  void DeliverDue(Shard& shard);
  // These return false when the stream has ended.
  bool HandleEvent(Shard& shard, DeliveryStream& stream, const SchedulerEvent& event,
                   Clock::time_point when);
  bool HandleToken(Shard& shard, DeliveryStream& stream, const SchedulerEvent& event,
                   Clock::time_point when);
  bool Begin(DeliveryStream& stream, RequestId id, Clock::time_point when);
  bool Add(Shard& shard, DeliveryStream& stream, RequestId id, Delta delta, Clock::time_point when);
  bool Send(DeliveryStream& stream, RequestId id, Delta delta);
  bool FinishChoice(DeliveryStream& stream, RequestId id, int32_t index, Finished finished);
  bool FinishRanked(DeliveryStream& stream, RequestId id);

  // Text of a token that may be seen, and whether a stop string ended it.
  StopMatcher::Emit TextOf(const DeliveryStream& stream, DeliveryChoice& choice,
                           const SchedulerEvent& event, bool visible) const;
  void CountToken(DeliveryStream& stream, DeliveryChoice& choice, const SchedulerEvent& event,
                  Clock::time_point when);
  void End(DeliveryStream& stream, const Finished& finished);
  void Fail(DeliveryStream& stream, const absl::Status& status);

  const Tokenizer* const tokenizer_;
  Observer* const observer_;
  const Stop stop_;
  std::vector<std::unique_ptr<Shard>> shards_;
  // The engine thread's: go with the next events, so that a stream alone wakes no shard.
  std::vector<std::pair<RequestId, std::unique_ptr<DeliveryStream>>> opened_;
};

}  // namespace based

#endif  // BASED_ENGINE_DELIVERY_H_
