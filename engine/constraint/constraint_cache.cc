#include "engine/constraint/constraint_cache.h"

#include <utility>

namespace based {

ConstraintCache::Result ConstraintCache::Get(std::string_view kind, std::string_view content,
                                             absl::FunctionRef<Result()> compile) {
  // No kind has a zero byte in its name.
  std::string key(kind);
  key.push_back('\0');
  key.append(content);
  std::shared_ptr<Flight> flight;
  {
    MutexLock lock(mutex_);
    if (const auto known = by_key_.find(key); known != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, known->second);
      std::shared_ptr<const Constraint> constraint = known->second->constraint;
      Shrink();  // masks grow after an entry was made
      return constraint;
    }
    const auto [at, mine] = flights_.try_emplace(key);
    if (!mine) {
      const std::shared_ptr<Flight> theirs = at->second;
      while (!theirs->done) landed_.Wait(mutex_);
      return theirs->result;
    }
    flight = at->second = std::make_shared<Flight>();
  }
  Result result = compile();
  MutexLock lock(mutex_);
  flight->result = result;
  flight->done = true;
  flights_.erase(key);
  landed_.NotifyAll();
  if (result.ok()) Keep(std::move(key), *result);
  return result;
}

void ConstraintCache::Keep(std::string key, std::shared_ptr<const Constraint> constraint) {
  entries_.push_front({std::move(key), std::move(constraint)});
  by_key_[entries_.front().key] = entries_.begin();
  Shrink();
}

// The newest stays whatever it takes: it is in use.
void ConstraintCache::Shrink() {
  int64_t bytes = 0;
  size_t kept = 0;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    bytes += entry->constraint->bytes() + 2 * static_cast<int64_t>(entry->key.size());
    if (kept > 0 && (kept >= max_entries_ || bytes > max_bytes_)) {
      by_key_.erase(entry->key);
      entry = entries_.erase(entry);
    } else {
      ++kept;
      ++entry;
    }
  }
}

size_t ConstraintCache::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace based
