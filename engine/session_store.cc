#include "engine/session_store.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr char kReasonPayload[] = "based.session";
constexpr size_t kMaxIdBytes = 128;
constexpr size_t kWordBits = 64;

size_t SeenWords(int32_t vocab_size) {
  return (static_cast<size_t>(vocab_size) + kWordBits - 1) / kWordBits;
}

int64_t BytesOf(const SessionOptions& options) {
  return options.image_bytes +
         static_cast<int64_t>(SeenWords(options.vocab_size) * sizeof(uint64_t));
}

absl::Status Error(absl::StatusCode code, absl::string_view reason, absl::string_view message) {
  absl::Status status(code, message);
  status.SetPayload(kReasonPayload, absl::Cord(reason));
  return status;
}

absl::Status NotFound(absl::string_view id) {
  return Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND",
               absl::StrCat("session '", id,
                            "' is not there: it was never made, or was deleted, made room for "
                            "others, was idle for too long, or the daemon has been started anew "
                            "since; make it with state.create_session and the whole conversation "
                            "as the prompt"));
}

absl::Status Exists(absl::string_view id) {
  return Error(absl::StatusCode::kAlreadyExists, "SESSION_EXISTS",
               absl::StrCat("session '", id, "' is there already; expected a new id"));
}

void Mark(absl::Span<const int32_t> tokens, std::vector<uint64_t>& seen) {
  for (const int32_t token : tokens) {
    const auto bit = static_cast<size_t>(token);
    BASED_CHECK(bit / kWordBits < seen.size());
    seen[bit / kWordBits] |= uint64_t{1} << (bit % kWordBits);
  }
}

}  // namespace

std::vector<int32_t> SessionState::SeenIds() const {
  std::vector<int32_t> ids;
  for (size_t word = 0; word < seen.size(); ++word) {
    for (size_t bit = 0; bit < kWordBits; ++bit) {
      if ((seen[word] >> bit & 1) != 0) ids.push_back(static_cast<int32_t>(word * kWordBits + bit));
    }
  }
  return ids;
}

SessionLease::~SessionLease() { store_.GiveBack(*this); }

absl::Status SessionLease::Keep(int64_t position, int32_t tail, absl::Span<const int32_t> added,
                                const std::function<absl::Status(absl::Span<std::byte>)>& write) {
  if (absl::Status written = write(absl::MakeSpan(*state_.image)); !written.ok()) {
    lost_ = true;
    return written;
  }
  state_.position = position;
  state_.tail = tail;
  Mark(added, state_.seen);
  kept_ = true;
  return absl::OkStatus();
}

SessionStore::SessionStore(const SessionOptions& options)
    : options_(options), session_bytes_(BytesOf(options)) {}

absl::Status SessionStore::CheckKept() const {
  if (options_.memory >= session_bytes_) return absl::OkStatus();
  const std::string why = enabled()
                              ? absl::StrCat("one takes ", session_bytes_,
                                             " bytes and --session_memory is ", options_.memory)
                              : std::string("--session_memory is 0");
  return Error(absl::StatusCode::kFailedPrecondition, "SESSIONS_OFF",
               absl::StrCat("this daemon keeps no sessions: ", why));
}

std::unique_ptr<SessionState> SessionStore::NewState() const {
  auto state = std::make_unique<SessionState>();
  state->image = std::make_shared<StateImage>(static_cast<size_t>(options_.image_bytes));
  state->seen.resize(SeenWords(options_.vocab_size));
  return state;
}

absl::StatusOr<std::shared_ptr<SessionLease>> SessionStore::Open(const std::string& tenant,
                                                                 const SessionAsk& ask) {
  BASED_RETURN_IF_ERROR(CheckKept());
  absl::StatusOr<std::shared_ptr<SessionLease>> lease = Lend(tenant, ask);
  if (!ask.create) CountLookup(lease.status());
  return lease;
}

void SessionStore::CountLookup(const absl::Status& status) {
  MutexLock lock(mutex_);
  switch (status.code()) {
    case absl::StatusCode::kOk:
      ++counts_.hits;
      return;
    case absl::StatusCode::kNotFound:
      ++counts_.misses;
      return;
    case absl::StatusCode::kAborted:
      ++counts_.busy;
      return;
    default:
      ++counts_.mismatches;
  }
}

absl::StatusOr<std::shared_ptr<SessionLease>> SessionStore::Lend(const std::string& tenant,
                                                                 const SessionAsk& ask) {
  const Key key(tenant, ask.id);
  const Clock::time_point now = Clock::now();
  Entry* entry = nullptr;
  if (ask.create) {
    {
      MutexLock lock(mutex_);
      ExpireLocked(now);
      if (entries_.contains(key)) return Exists(ask.id);
      BASED_ASSIGN_OR_RETURN(entry, Add(key, now));
    }
    // Megabytes: not under the lock, and nobody else looks into what is busy.
    entry->state = NewState();
  } else {
    MutexLock lock(mutex_);
    ExpireLocked(now);
    BASED_ASSIGN_OR_RETURN(entry, FindFree(key));
    entry->busy = true;
  }
  auto lease = std::make_shared<SessionLease>(*this, tenant, ask.id, *entry->state);
  const int64_t tokens = lease->state().tokens();
  if (ask.tokens.has_value() && *ask.tokens != tokens) {
    return Error(absl::StatusCode::kFailedPrecondition, "SESSION_TOKENS",
                 absl::StrCat("state.session_tokens is ", *ask.tokens, "; session '", ask.id,
                              "' holds ", tokens, " tokens"));
  }
  return lease;
}

absl::StatusOr<SessionStore::Entry*> SessionStore::FindFree(const Key& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return NotFound(key.second);
  if (found->second.busy) {
    return Error(absl::StatusCode::kAborted, "SESSION_BUSY",
                 absl::StrCat("session '", key.second,
                              "' is in use by another call; expected one at a time"));
  }
  return &found->second;
}

absl::StatusOr<SessionStore::Entry*> SessionStore::Add(const Key& key, Clock::time_point now) {
  BASED_RETURN_IF_ERROR(MakeRoom(key.first));
  Entry& entry = entries_[key];
  entry.busy = true;
  entry.created = entry.used = now;
  ++held_[key.first];
  ++counts_.created;
  return &entry;
}

absl::Status SessionStore::MakeRoom(const std::string& tenant) {
  const auto own = held_.find(tenant);
  const bool at_limit =
      options_.max_per_tenant > 0 && own != held_.end() && own->second >= options_.max_per_tenant;
  const auto count = static_cast<int64_t>(entries_.size());
  if (!at_limit && (count + 1) * session_bytes_ <= options_.memory) return absl::OkStatus();
  const auto victim = Victim(tenant, at_limit);
  if (victim == entries_.end()) {
    return Error(absl::StatusCode::kResourceExhausted, "SESSIONS_FULL",
                 absl::StrCat("no room for another session: of the ", count,
                              " that there are, all that could make room are in use"));
  }
  Erase(victim);
  ++counts_.evicted_memory;
  return absl::OkStatus();
}

// Who makes room for a session of `tenant`: nobody who holds no more than the tenant would then, or
// nobody but itself where `own`.
SessionStore::Entries::iterator SessionStore::Victim(const std::string& tenant, bool own) {
  const auto held = held_.find(tenant);
  const int64_t wanted = held == held_.end() ? 1 : held->second + 1;
  auto best = entries_.end();
  int64_t best_share = 0;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const auto& [key, entry] = *it;
    const bool is_own = key.first == tenant;
    const int64_t share = is_own ? wanted : held_.at(key.first);
    if (entry.busy || (own && !is_own) || share < wanted) continue;
    if (best == entries_.end() || share > best_share ||
        (share == best_share && entry.used < best->second.used)) {
      best = it;
      best_share = share;
    }
  }
  return best;
}

void SessionStore::Erase(Entries::iterator entry) {
  const auto held = held_.find(entry->first.first);
  if (--held->second == 0) held_.erase(held);
  entries_.erase(entry);
}

void SessionStore::ExpireLocked(Clock::time_point now) {
  if (options_.idle_limit == Clock::duration::max()) return;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto next = std::next(it);
    if (!it->second.busy && now - it->second.used >= options_.idle_limit) {
      Erase(it);
      ++counts_.evicted_idle;
    }
    it = next;
  }
}

void SessionStore::Expire(Clock::time_point now) {
  MutexLock lock(mutex_);
  ExpireLocked(now);
}

void SessionStore::GiveBack(const SessionLease& lease) {
  MutexLock lock(mutex_);
  const auto found = entries_.find({lease.tenant_, lease.id_});
  BASED_CHECK(found != entries_.end() && found->second.busy);
  Entry& entry = found->second;
  if (lease.kept_) {
    if (entry.kept) ++counts_.resumed;
    counts_.reused_tokens += lease.reused_;
    entry.kept = true;
    entry.tokens = lease.state_.tokens();
  }
  if (lease.lost_ || !entry.kept) return Erase(found);
  entry.busy = false;
  entry.used = Clock::now();
}

SessionInfo SessionStore::InfoOf(const Entries::value_type& entry, Clock::time_point now) const {
  const auto& [key, session] = entry;
  return {.id = key.second,
          .tokens = session.tokens,
          .bytes = session_bytes_,
          .busy = session.busy,
          .age = now - session.created,
          .idle = session.busy ? Clock::duration(0) : now - session.used};
}

absl::StatusOr<SessionInfo> SessionStore::Get(const std::string& tenant, const std::string& id) {
  BASED_RETURN_IF_ERROR(CheckKept());
  MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  ExpireLocked(now);
  const auto found = entries_.find({tenant, id});
  if (found == entries_.end()) return NotFound(id);
  return InfoOf(*found, now);
}

std::vector<SessionInfo> SessionStore::List(const std::string& tenant, const std::string& after,
                                            size_t most) {
  std::vector<SessionInfo> list;
  MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  ExpireLocked(now);
  for (auto it = entries_.upper_bound({tenant, after});
       it != entries_.end() && it->first.first == tenant && list.size() < most; ++it) {
    list.push_back(InfoOf(*it, now));
  }
  return list;
}

absl::StatusOr<SessionInfo> SessionStore::Fork(const std::string& tenant, const std::string& id,
                                               const std::string& new_id) {
  BASED_ASSIGN_OR_RETURN(const std::shared_ptr<SessionLease> from,
                         Open(tenant, {.id = id, .create = false, .tokens = {}}));
  BASED_ASSIGN_OR_RETURN(const std::shared_ptr<SessionLease> to,
                         Open(tenant, {.id = new_id, .create = true, .tokens = {}}));
  const SessionState& state = from->state();
  const std::vector<int32_t> seen = state.SeenIds();
  BASED_RETURN_IF_ERROR(
      to->Keep(state.position, state.tail, seen, [&](absl::Span<std::byte> image) {
        std::copy(state.image->begin(), state.image->end(), image.begin());
        return absl::OkStatus();
      }));
  return SessionInfo{.id = new_id, .tokens = state.tokens(), .bytes = session_bytes_};
}

absl::Status SessionStore::Delete(const std::string& tenant, const std::string& id) {
  BASED_RETURN_IF_ERROR(CheckKept());
  MutexLock lock(mutex_);
  ExpireLocked(Clock::now());
  const Key key(tenant, id);
  BASED_RETURN_IF_ERROR(FindFree(key).status());
  Erase(entries_.find(key));
  return absl::OkStatus();
}

SessionUse SessionStore::use() {
  MutexLock lock(mutex_);
  ExpireLocked(Clock::now());
  SessionUse use = counts_;
  use.sessions = static_cast<int64_t>(entries_.size());
  use.bytes = use.sessions * session_bytes_;
  use.limit_bytes = options_.memory;
  return use;
}

absl::Status CheckSessionId(absl::string_view field, absl::string_view id) {
  const bool fits = !id.empty() && id.size() <= kMaxIdBytes;
  const bool known = std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
  });
  if (fits && known) return absl::OkStatus();
  const std::string shown =
      fits ? absl::StrCat("'", absl::CHexEscape(id), "'") : absl::StrCat(id.size(), " bytes long");
  return absl::InvalidArgumentError(absl::StrCat(
      field, " is ", shown, "; expected 1 to 128 of the characters A-Z a-z 0-9 - _ . :"));
}

std::string SessionReasonOf(const absl::Status& status) {
  const auto reason = status.GetPayload(kReasonPayload);
  return reason.has_value() ? std::string(*reason) : "";
}

}  // namespace based
