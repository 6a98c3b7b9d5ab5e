// Compiled constraints by what they were made of, so that a schema that many requests bring is
// compiled once and its masks are computed once. Thread-safe.
#ifndef BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_
#define BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/constraint/constraint.h"
#include "kernels/base/mutex.h"

namespace based {

class ConstraintCache {
 public:
  using Made = absl::StatusOr<std::shared_ptr<const Constraint>>;

  // Keeps at most so many constraints, and so many bytes of them and their keys as far as there is
  // more than one; those used longest ago go first. Whoever uses one keeps it alive.
  ConstraintCache(size_t max_entries, int64_t max_bytes)
      : max_entries_(max_entries), max_bytes_(max_bytes) {}

  // What `key` stands for: kept, or made by `make`, which runs in this thread without the lock
  // while others that ask for the same key wait for it and share what comes of it. Errors are not
  // kept. `reused` is whether `make` did not run here.
  Made Get(const std::string& key, const std::function<Made()>& make, bool& reused);

  size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<const Constraint> constraint;  // null: being made
    uint64_t used = 0;
    absl::Status error;
    bool failed = false;
  };

  void Trim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_entries_;
  const int64_t max_bytes_;
  mutable Mutex mutex_;
  CondVar changed_;
  uint64_t clock_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_
