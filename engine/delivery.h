// Turns drawn ids into text and hands it to the sinks, off the engine thread. A request belongs to
// one shard (id modulo threads), so its sink hears everything in order from one thread.
#ifndef BASED_ENGINE_DELIVERY_H_
#define BASED_ENGINE_DELIVERY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/observer.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/stop_matcher.h"
#include "engine/tokenizer.h"
#include "kernels/base/mutex.h"

namespace based {

// What delivery keeps of one request.
struct DeliveryStream {
  DeliveryStream(std::shared_ptr<TokenSink> token_sink, const StopConditions& stop,
                 const OutputOptions& output_options)
      : sink(std::move(token_sink)),
        matcher(stop.strings),
        output(output_options),
        wants_text(output_options.text || !stop.strings.empty()) {}

  std::shared_ptr<TokenSink> sink;
  StopMatcher matcher;
  Utf8Stream utf8;
  OutputOptions output;
  bool wants_text;  // detokenize: for the client or for stop strings
  Started started;
  Clock::time_point submitted;
  Clock::time_point admitted;
  Clock::time_point first_token;
  Clock::time_point last_token;
  int64_t generated_tokens = 0;
};

class Delivery {
 public:
  // `stop` is called from a delivery thread when a stop string matched or a sink is full: the
  // sequence need not run on. `tokenizer` and `observer` may be null and must outlive this object.
  Delivery(int32_t threads, const Tokenizer* tokenizer, Observer* observer,
           std::function<void(RequestId)> stop);
  // Delivers what is queued, then ends the threads. Streams still open hear nothing more.
  ~Delivery();

  // Both from the engine thread. Open comes before any event of `id`; events of unknown ids are
  // dropped (their stream ended on a stop string). Waits when a shard is kMaxBatches behind.
  void Open(RequestId id, std::unique_ptr<DeliveryStream> stream);
  void Push(const std::vector<SchedulerEvent>& events, Clock::time_point when);

  // Returns when everything pushed so far has been delivered.
  void Flush();

 private:
  static constexpr size_t kMaxBatches = 1024;

  struct Batch {
    Clock::time_point when;
    std::vector<std::pair<RequestId, std::unique_ptr<DeliveryStream>>> opened;
    std::vector<SchedulerEvent> events;
  };

  struct Shard {
    Mutex mutex;
    CondVar changed;
    std::deque<Batch> batches ABSL_GUARDED_BY(mutex);
    bool busy ABSL_GUARDED_BY(mutex) = false;
    bool closing ABSL_GUARDED_BY(mutex) = false;
    absl::flat_hash_map<RequestId, std::unique_ptr<DeliveryStream>> streams;  // its thread only
    std::thread thread;
  };

  Shard& ShardOf(RequestId id) { return *shards_[id % shards_.size()]; }
  void Enqueue(Shard& shard, Batch batch);
  void Run(Shard& shard);
  void Deliver(Shard& shard, Batch& batch);
  bool HandleEvent(DeliveryStream& stream, const SchedulerEvent& event, Clock::time_point when);
  bool HandleToken(DeliveryStream& stream, const SchedulerEvent& event, Clock::time_point when);
  void CountToken(DeliveryStream& stream, Clock::time_point when);
  bool SendDelta(DeliveryStream& stream, RequestId id, Delta delta);
  void Finish(DeliveryStream& stream, Finished finished);
  void Fail(DeliveryStream& stream, const absl::Status& status);

  const Tokenizer* const tokenizer_;
  Observer* const observer_;
  const std::function<void(RequestId)> stop_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace based

#endif  // BASED_ENGINE_DELIVERY_H_
