#include "engine/constraint/constraint_cache.h"

#include <utility>

namespace based {

ConstraintCache::Made ConstraintCache::Get(const std::string& key,
                                           const std::function<Made()>& make, bool& reused) {
  std::shared_ptr<Entry> entry;
  {
    MutexLock lock(mutex_);
    auto [found, is_new] = entries_.try_emplace(key);
    reused = !is_new;
    if (is_new) found->second = std::make_shared<Entry>();
    entry = found->second;
    while (reused && entry->constraint == nullptr && !entry->failed) changed_.Wait(mutex_);
    if (entry->failed) return entry->error;
    entry->used = ++clock_;
    if (reused) return entry->constraint;
  }
  Made made = make();
  MutexLock lock(mutex_);
  if (made.ok()) {
    entry->constraint = *made;
    Trim();
  } else {
    entry->error = made.status();
    entry->failed = true;
    entries_.erase(key);
  }
  changed_.NotifyAll();
  return made;
}

size_t ConstraintCache::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

void ConstraintCache::Trim() {
  while (true) {
    int64_t bytes = 0;
    size_t made = 0;
    auto oldest = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->second->constraint == nullptr) continue;
      ++made;
      bytes += entry->second->constraint->bytes() + static_cast<int64_t>(entry->first.size());
      if (oldest == entries_.end() || entry->second->used < oldest->second->used) oldest = entry;
    }
    if (made <= 1 || (made <= max_entries_ && bytes <= max_bytes_)) return;
    entries_.erase(oldest);
  }
}

}  // namespace based
