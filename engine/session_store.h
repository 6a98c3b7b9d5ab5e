// States that outlive their calls: one slot image per session, in host memory of a fixed bound.
//
// A session is keyed by tenant and id; another tenant's is as good as none. One user at a time
// holds it by a SessionLease. What is not held may be evicted: when memory (or the tenant's share)
// is full, the least recently used session of the tenant that holds the most, and what was not used
// for idle_limit. Thread-safe.
#ifndef BASED_ENGINE_SESSION_STORE_H_
#define BASED_ENGINE_SESSION_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/request.h"
#include "kernels/base/mutex.h"
#include "kernels/program.h"

namespace based {

// ExportSlot's bytes; sized by whoever exports.
using StateImage = std::vector<std::byte>;

struct SessionOptions {
  int64_t memory = 0;       // bytes for all sessions; 0: none are kept
  int64_t image_bytes = 0;  // ExecutableInfo::image_bytes
  int32_t vocab_size = 0;
  int32_t max_per_tenant = 0;  // sessions; 0: no limit but memory
  Clock::duration idle_limit = Clock::duration::max();
};

// A conversation: the tokens of `image`, then `tail`.
struct SessionState {
  std::shared_ptr<StateImage> image;  // meaningful where position > 0
  int64_t position = 0;               // tokens in the image
  int32_t tail = kNone;               // a token that follows and was not fed yet; kNone: none
  std::vector<uint64_t> seen;         // bit i % 64 of word i / 64: id i is in the conversation

  int64_t tokens() const { return position + (tail == kNone ? 0 : 1); }
  // The ids that are in the conversation, ascending.
  std::vector<int32_t> SeenIds() const;
};

struct SessionInfo {
  std::string id;
  int64_t tokens = 0;
  int64_t bytes = 0;
  bool busy = false;
  Clock::duration age{0};
  Clock::duration idle{0};  // 0 while busy
};

struct SessionUse {
  int64_t sessions = 0;
  int64_t bytes = 0;
  int64_t limit_bytes = 0;
  // Since the start.
  int64_t created = 0;
  int64_t resumed = 0;         // calls that went on from a session's state
  int64_t evicted_memory = 0;  // made room for others
  int64_t evicted_idle = 0;    // were not used for too long
  int64_t reused_tokens = 0;   // that resumed calls did not compute again
  // Who asked to go on from a session, or to fork it, and found it, found none, found it held, or
  // found that it holds another number of tokens than asked for.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t busy = 0;
  int64_t mismatches = 0;
};

class SessionStore;

// The right to use a session, until it is destroyed. A session that was made with it and never kept
// goes with it. Used by one thread at a time.
class SessionLease {
 public:
  SessionLease(SessionStore& store, std::string tenant, std::string id, SessionState& state)
      : store_(store),
        tenant_(std::move(tenant)),
        id_(std::move(id)),
        state_(state),
        reused_(state.position) {}
  ~SessionLease();
  SessionLease(const SessionLease&) = delete;
  SessionLease& operator=(const SessionLease&) = delete;

  const SessionState& state() const { return state_; }

  // Makes the session hold `position` tokens in the image that `write` fills, then `tail`. `added`:
  // the tokens that it did not hold before. When `write` fails the session is gone: it held the
  // only copy.
  absl::Status Keep(int64_t position, int32_t tail, absl::Span<const int32_t> added,
                    const std::function<absl::Status(absl::Span<std::byte>)>& write);

 private:
  friend class SessionStore;

  SessionStore& store_;
  const std::string tenant_;
  const std::string id_;
  SessionState& state_;
  const int64_t reused_;  // tokens of the image, at first
  bool kept_ = false;
  bool lost_ = false;
};

class SessionStore {
 public:
  explicit SessionStore(const SessionOptions& options);

  // Errors name the session; their reason goes with them (SessionReasonOf).
  //   FAILED_PRECONDITION  no sessions are kept, or it holds another number of tokens than asked
  //   NOT_FOUND            the tenant has none of that id
  //   ALREADY_EXISTS       it does, and the request would make it
  //   ABORTED              it is held
  //   RESOURCE_EXHAUSTED   every session that could make room for a new one is held
  // The store must outlive the lease.
  absl::StatusOr<std::shared_ptr<SessionLease>> Open(const std::string& tenant,
                                                     const SessionAsk& ask);
  absl::StatusOr<SessionInfo> Get(const std::string& tenant, const std::string& id);
  absl::StatusOr<SessionInfo> Fork(const std::string& tenant, const std::string& id,
                                   const std::string& new_id);
  absl::Status Delete(const std::string& tenant, const std::string& id);
  // At most `most` sessions of the tenant with ids after `after`, ascending.
  std::vector<SessionInfo> List(const std::string& tenant, const std::string& after, size_t most);

  // Drops what was not used for too long. The others do it too, as of the time of their call.
  void Expire(Clock::time_point now);
  SessionUse use();

 private:
  friend class SessionLease;
  using Key = std::pair<std::string, std::string>;  // tenant, id

  struct Entry {
    std::unique_ptr<SessionState> state;  // its holder's while busy
    bool busy = false;
    bool kept = false;  // has been given a state
    int64_t tokens = 0;
    Clock::time_point created;
    Clock::time_point used;  // given back
  };
  using Entries = std::map<Key, Entry>;

  absl::StatusOr<Entry*> FindFree(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Open without the count. REQUIRES: sessions are kept.
  absl::StatusOr<std::shared_ptr<SessionLease>> Lend(const std::string& tenant,
                                                     const SessionAsk& ask);
  void CountLookup(const absl::Status& status);
  absl::Status CheckKept() const;
  bool enabled() const { return options_.memory > 0; }
  // A new entry that is busy.
  absl::StatusOr<Entry*> Add(const Key& key, Clock::time_point now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeRoom(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Entries::iterator Victim(const std::string& tenant, bool own)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ExpireLocked(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Erase(Entries::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SessionInfo InfoOf(const Entries::value_type& entry, Clock::time_point now) const;
  std::unique_ptr<SessionState> NewState() const;
  void GiveBack(const SessionLease& lease);

  const SessionOptions options_;
  const int64_t session_bytes_;

  Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> held_ ABSL_GUARDED_BY(mutex_);  // sessions by tenant, none of 0
  SessionUse counts_ ABSL_GUARDED_BY(mutex_);                    // those since the start
};

// INVALID_ARGUMENT, naming `field`, unless `id` has 1 to 128 of the characters A-Z a-z 0-9 - _ . :
absl::Status CheckSessionId(absl::string_view field, absl::string_view id);

// "SESSION_NOT_FOUND" and so on for errors of a SessionStore; else "".
std::string SessionReasonOf(const absl::Status& status);

}  // namespace based

#endif  // BASED_ENGINE_SESSION_STORE_H_
