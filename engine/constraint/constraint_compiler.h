// Compiles what requests ask their text to be, each content once.
//
// Thread-safe. Compiling takes milliseconds in the caller's thread, so that few are let in at a
// time; what was compiled before costs a lookup.
#ifndef BASED_ENGINE_CONSTRAINT_CONSTRAINT_COMPILER_H_
#define BASED_ENGINE_CONSTRAINT_CONSTRAINT_COMPILER_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/constraint/constraint.h"
#include "engine/constraint/constraint_cache.h"
#include "engine/model.h"
#include "engine/request.h"
#include "kernels/base/mutex.h"

namespace based {

class ConstraintCompiler {
 public:
  // `model` must outlive the compiler.
  explicit ConstraintCompiler(const Model& model) : model_(model) {}

  // REQUIRES: the model has a tokenizer and ask.kind is not kNothing. `reused` is whether it had
  // been compiled before.
  //   INVALID_ARGUMENT     "FIELD: place and reason": outside the subset, over a limit, or nothing
  //                        but the empty text can match
  //   RESOURCE_EXHAUSTED   kMostAtATime others are being compiled
  absl::StatusOr<std::shared_ptr<const Constraint>> Compile(const ConstraintAsk& ask, bool& reused);

  // What messages call the constraint.
  static absl::string_view FieldOf(const ConstraintAsk& ask);

 private:
  static constexpr int32_t kMostAtATime = 8;
  static constexpr size_t kMostKept = 256;
  static constexpr int64_t kMostKeptBytes = int64_t{256} << 20;

  absl::StatusOr<std::shared_ptr<const Constraint>> MakeWhereThereIsRoom(const ConstraintAsk& ask);
  absl::StatusOr<std::shared_ptr<const Constraint>> Make(const ConstraintAsk& ask);
  absl::StatusOr<std::shared_ptr<const TokenTrie>> Trie();

  const Model& model_;
  ConstraintCache cache_{kMostKept, kMostKeptBytes};
  Mutex mutex_;
  int32_t compiling_ ABSL_GUARDED_BY(mutex_) = 0;
  Mutex trie_mutex_;
  // Made for the first constraint: most daemons meet none.
  std::shared_ptr<const TokenTrie> trie_ ABSL_GUARDED_BY(trie_mutex_);
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CONSTRAINT_COMPILER_H_
