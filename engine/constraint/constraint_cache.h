// Compiled constraints by their content, so that requests with equal ones share the work and the
// masks. Thread-safe.
#ifndef BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_
#define BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/constraint/constraint.h"
#include "kernels/base/mutex.h"

namespace based {

class ConstraintCache {
 public:
  using Result = absl::StatusOr<std::shared_ptr<const Constraint>>;

  // Keeps at most `max_entries` (at least 1), the least recently used go first; and fewer where
  // their content, tables and masks take more than `max_bytes`. Constraints in use stay alive.
  ConstraintCache(size_t max_entries, int64_t max_bytes)
      : max_entries_(max_entries), max_bytes_(max_bytes) {}

  // The constraint of this `kind` (json_schema, regex, ...) and `content`, made by `compile` where
  // it is not here. While one thread compiles, others that want the same wait for its result;
  // different ones compile at the same time. Refusals are not kept: they are what `compile` says.
  // Blocks for as long as `compile` does, so it is not for the engine's thread.
  Result Get(std::string_view kind, std::string_view content, absl::FunctionRef<Result()> compile);

  size_t size() const;

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Constraint> constraint;
  };
  // A compilation that others may wait for.
  struct Flight {
    bool done = false;
    Result result = absl::InternalError("not compiled");
  };

  void Keep(std::string key, std::shared_ptr<const Constraint> constraint)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Shrink() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_entries_;
  const int64_t max_bytes_;
  mutable Mutex mutex_;
  CondVar landed_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // the most recently used first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::shared_ptr<Flight>> flights_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CONSTRAINT_CACHE_H_
