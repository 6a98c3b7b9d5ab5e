// One rendering's budget and its first error, which everything that evaluates shares. The error
// sticks: whoever finds the run failed gives up, and what was made since means nothing.
#ifndef BASED_ENGINE_JINJA_RUN_H_
#define BASED_ENGINE_JINJA_RUN_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "engine/jinja/value.h"

namespace based::jinja {

// What one rendering may cost, in bytes of text that it reads or writes; every step of the program
// counts as kStepCost of them. Far above what 10,000 messages or 16 MiB of text take.
inline constexpr int64_t kMaxCost = int64_t{256} << 20;
inline constexpr size_t kStepCost = 64;
// How deep lists and dicts may nest, and how deep evaluation may recurse.
inline constexpr int kMaxValueDepth = 100;
inline constexpr int kMaxRecursion = 400;
inline constexpr size_t kMaxOutputBytes = size_t{16} << 20;

class Run {
 public:
  explicit Run(std::chrono::system_clock::time_point now) : now_(now) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  std::chrono::system_clock::time_point now() const { return now_; }

  // Where the template is, for messages.
  void At(int line) { line_ = line; }
  int line() const { return line_; }

  // Counts `bytes`; false once the run has failed.
  bool Spend(size_t bytes);
  bool Step() { return Spend(kStepCost); }

  // INVALID_ARGUMENT "line N: `message`", unless something failed before. Returns undefined.
  Value Fail(std::string_view message);
  // ABORTED: the template itself refuses.
  Value Raise(std::string_view message);
  // `value` where it may stand in a list, a dict or a namespace; else fails.
  Value Contained(Value value);

 private:
  const std::chrono::system_clock::time_point now_;
  int64_t left_ = kMaxCost;
  int line_ = 1;
  absl::Status status_;
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_RUN_H_
