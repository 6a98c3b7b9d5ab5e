#include "engine/constraint/readings.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace based {
namespace {

// Up to this many arrivals are searched one by one.
constexpr size_t kFew = 24;
constexpr size_t kFewestBuckets = 16;
// Less than this is not worth compacting.
constexpr size_t kFewToCompact = 256;

}  // namespace

Readings::Readings(const Automaton* automaton, int32_t max_depth, int32_t max_size)
    : automaton_(automaton),
      max_depth_(max_depth),
      max_size_(static_cast<size_t>(max_size)),
      may_end_(automaton->may_be_empty()),
      callers_({{Automaton::kNone, 0, 0, 0, -1}}),
      buckets_(kFewestBuckets, -1) {
  if (!automaton->final(automaton->start())) open_ = {{automaton->start(), kOutside}};
}

void Readings::StartFrom(int32_t state) {
  BeginStep();
  Arrive({state, kOutside});
  EndStep();
}

void Readings::ReturnTo(const Position& position) {
  open_ = position.open;
  may_end_ = position.may_end;
}

bool Readings::Read(std::string_view bytes) {
  const Position before = position();
  for (const char byte : bytes) {
    if (Step(static_cast<uint8_t>(byte))) continue;
    ReturnTo(before);
    return false;
  }
  return true;
}

void Readings::BeginStep() {
  next_.clear();
  arrived_.clear();
  many_arrived_.clear();
  next_may_end_ = false;
}

void Readings::EndStep() {
  std::sort(next_.begin(), next_.end());
  open_.swap(next_);
  may_end_ = next_may_end_;
}

bool Readings::Step(uint8_t byte) {
  BeginStep();
  for (size_t begin = 0, end = 0; begin < open_.size(); begin = end) {
    const int32_t state = open_[begin].state;
    group_.clear();
    for (end = begin; end < open_.size() && open_[end].state == state; ++end) {
      group_.push_back(open_[end].caller);
    }
    const int32_t code = automaton_->Next(state, byte);
    if (code == Automaton::kNone) continue;
    if (code >= 0) {
      for (const int32_t caller : group_) Arrive({code, caller});
      continue;
    }
    for (const Automaton::Move& move : automaton_->MovesOf(code)) {
      if (move.push_count == 0) {
        for (const int32_t caller : group_) Arrive({move.target, caller});
      } else if (const int32_t caller = Push(move, group_); caller >= 0) {
        Arrive({move.target, caller});
      }
    }
  }
  if (next_.empty() && !next_may_end_) return false;
  EndStep();
  return true;
}

// Adds the reading, and where its rule may end there, those of its callers.
void Readings::Arrive(Reading reading) {
  arriving_.assign(1, reading);
  while (!arriving_.empty()) {
    const Reading at = arriving_.back();
    arriving_.pop_back();
    if (callers_[at.caller].depth + automaton_->nesting_need(at.state) > max_depth_) continue;
    if (!FirstArrival(at)) continue;
    if (!automaton_->final(at.state)) next_.push_back(at);
    if (!automaton_->accepting(at.state)) continue;
    if (at.caller == kOutside) {
      next_may_end_ = true;
      continue;
    }
    for (const int32_t caller : CallersOf(at.caller)) {
      arriving_.push_back({StateOf(at.caller), caller});
    }
  }
}

bool Readings::FirstArrival(const Reading& reading) {
  if (arrived_.size() < kFew) {
    if (std::find(arrived_.begin(), arrived_.end(), reading) != arrived_.end()) return false;
    arrived_.push_back(reading);
    return true;
  }
  if (many_arrived_.empty()) {
    for (const Reading& early : arrived_) many_arrived_.emplace(early.state, early.caller);
  }
  return many_arrived_.emplace(reading.state, reading.caller).second;
}

// The innermost of the callers that `move` adds; -1 where that is too deep.
int32_t Readings::Push(const Automaton::Move& move, absl::Span<const int32_t> callers) {
  int32_t caller = -1;
  for (const int32_t state : automaton_->PushesOf(move)) {
    caller = Intern(state, caller < 0 ? callers : absl::MakeConstSpan(&caller, 1));
    // It goes on in `state` with one caller less.
    if (callers_[caller].depth - 1 + automaton_->nesting_need(state) > max_depth_) return -1;
  }
  return callers_[caller].depth > max_depth_ ? -1 : caller;
}

size_t Readings::BucketOf(int32_t state, absl::Span<const int32_t> callers) const {
  uint64_t hash = static_cast<uint32_t>(state);
  for (const int32_t caller : callers) {
    hash = (hash ^ (hash >> 29)) * 0x9E3779B97F4A7C15u + static_cast<uint32_t>(caller);
  }
  hash *= 0x9E3779B97F4A7C15u;
  return (hash >> 32) & (buckets_.size() - 1);
}

int32_t Readings::Intern(int32_t state, absl::Span<const int32_t> callers) {
  const size_t bucket = BucketOf(state, callers);
  for (int32_t known = buckets_[bucket]; known >= 0; known = callers_[known].same_bucket) {
    if (callers_[known].state == state && CallersOf(known) == callers) return known;
  }
  int32_t depth = 0;
  for (const int32_t caller : callers) depth = std::max(depth, callers_[caller].depth);
  const auto id = static_cast<int32_t>(callers_.size());
  callers_.push_back({state, static_cast<int32_t>(links_.size()),
                      static_cast<int32_t>(callers.size()), depth + 1, buckets_[bucket]});
  buckets_[bucket] = id;
  links_.insert(links_.end(), callers.begin(), callers.end());
  if (callers_.size() > 2 * buckets_.size()) Rehash();
  return id;
}

void Readings::Rehash() {
  buckets_.assign(buckets_.size() * 4, -1);
  for (size_t id = 1; id < callers_.size(); ++id) {
    const size_t bucket = BucketOf(callers_[id].state, CallersOf(static_cast<int32_t>(id)));
    callers_[id].same_bucket = buckets_[bucket];
    buckets_[bucket] = static_cast<int32_t>(id);
  }
}

ByteSet Readings::NextBytes() const {
  ByteSet bytes;
  for (const Reading& reading : open_) bytes |= automaton_->bytes(reading.state);
  return bytes;
}

int32_t Readings::MostDepth() const {
  int32_t depth = 0;
  for (const Reading& reading : open_) depth = std::max(depth, callers_[reading.caller].depth);
  return depth;
}

Readings Readings::Fresh() const {
  Readings fresh(automaton_, max_depth_, static_cast<int32_t>(max_size_));
  fresh.open_.clear();
  fresh.may_end_ = may_end_;
  return fresh;
}

// The caller of `other` here, with all its own; `copies` has -1 for those not copied yet. Callers
// come after their own callers, so that a list in ascending order needs no recursion.
int32_t Readings::CopyFrom(const Readings& other, int32_t caller, std::vector<int32_t>* copies) {
  std::vector<int32_t> own;
  for (const int32_t link : other.CallersOf(caller)) own.push_back((*copies)[link]);
  std::sort(own.begin(), own.end());
  return (*copies)[caller] = Intern(other.StateOf(caller), own);
}

void Readings::Compact() {
  if (size() < compact_at_) return;
  std::vector<bool> needed(callers_.size(), false);
  for (const Reading& reading : open_) needed[reading.caller] = true;
  for (size_t id = callers_.size(); id-- > 1;) {
    if (!needed[id]) continue;
    for (const int32_t link : CallersOf(static_cast<int32_t>(id))) needed[link] = true;
  }
  Readings kept = Fresh();
  std::vector<int32_t> copies(callers_.size(), -1);
  copies[kOutside] = kOutside;
  for (size_t id = 1; id < callers_.size(); ++id) {
    if (needed[id]) kept.CopyFrom(*this, static_cast<int32_t>(id), &copies);
  }
  for (const Reading& reading : open_)
    kept.open_.push_back({reading.state, copies[reading.caller]});
  std::sort(kept.open_.begin(), kept.open_.end());
  if (kept.size() > max_size_) kept.KeepOne();
  kept.compact_at_ = 2 * kept.size() + kFewToCompact;
  *this = std::move(kept);
}

// Of the readings with the fewest callers the first.
void Readings::KeepOne() {
  if (open_.empty()) return;
  const Reading best =
      *std::min_element(open_.begin(), open_.end(), [&](const Reading& a, const Reading& b) {
        return callers_[a.caller].depth < callers_[b.caller].depth;
      });
  std::vector<int32_t> chain;  // innermost first
  for (int32_t caller = best.caller; caller != kOutside; caller = CallersOf(caller)[0]) {
    chain.push_back(StateOf(caller));
  }
  Readings kept = Fresh();
  int32_t caller = kOutside;
  for (auto state = chain.rbegin(); state != chain.rend(); ++state) {
    caller = kept.Intern(*state, absl::MakeConstSpan(&caller, 1));
  }
  kept.open_ = {{best.state, caller}};
  *this = std::move(kept);
}

}  // namespace based
