// All readings of a text so far, for one sequence: a set of stacks that share what they have in
// common (a graph-structured stack). Copies are independent. Not thread-safe.
#ifndef BASED_ENGINE_CONSTRAINT_READINGS_H_
#define BASED_ENGINE_CONSTRAINT_READINGS_H_

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "engine/constraint/automaton.h"

namespace based {

class Readings {
 public:
  // The state in the innermost rule and who called that; kOutside for the whole text's rule.
  struct Reading {
    int32_t state;
    int32_t caller;
    auto operator<=>(const Reading&) const = default;
  };
  static constexpr int32_t kOutside = 0;

  // `automaton` outlives this. No reading ever has more than `max_depth` callers, and each has a
  // way to its end with no more. `max_size` bounds what Compact leaves.
  Readings(const Automaton* automaton, int32_t max_depth, int32_t max_size);

  // As if the text's rule were in `state`.
  void StartFrom(int32_t state);

  // Where it is in the text; good until Compact.
  struct Position {
    std::vector<Reading> open;
    bool may_end = false;
  };
  Position position() const { return {open_, may_end_}; }
  void ReturnTo(const Position& position);
  // What Compact bounds, as it is now.
  size_t size() const { return callers_.size() + links_.size() + open_.size(); }

  // Whether `bytes` may follow; if not, nothing has changed.
  bool Read(std::string_view bytes);

  // To be called now and then: forgets what no reading needs. Where more than max_size is left, one
  // reading goes on alone.
  void Compact();

  bool may_end() const { return may_end_; }
  // Ascending. A rule that may have ended is not there with its end alone: its callers are.
  absl::Span<const Reading> open() const { return open_; }
  ByteSet NextBytes() const;
  int32_t MostDepth() const;

  int32_t StateOf(int32_t caller) const { return callers_[caller].state; }
  absl::Span<const int32_t> CallersOf(int32_t caller) const {
    return absl::MakeConstSpan(links_.data() + callers_[caller].first_link,
                               callers_[caller].link_count);
  }

 private:
  // Where a rule goes on when one that it called has ended. Equal ones are the same.
  struct Caller {
    int32_t state;
    int32_t first_link;  // its own callers, ascending
    int32_t link_count;
    int32_t depth;        // 1 + the most of its callers' depths; 0 outside
    int32_t same_bucket;  // next of the same hash, or -1
  };

  void BeginStep();
  bool Step(uint8_t byte);
  void EndStep();
  void Arrive(Reading reading);
  bool FirstArrival(const Reading& reading);
  int32_t Push(const Automaton::Move& move, absl::Span<const int32_t> callers);
  int32_t Intern(int32_t state, absl::Span<const int32_t> callers);
  size_t BucketOf(int32_t state, absl::Span<const int32_t> callers) const;
  void Rehash();
  int32_t CopyFrom(const Readings& other, int32_t caller, std::vector<int32_t>* copies);
  void KeepOne();
  Readings Fresh() const;

  const Automaton* automaton_;
  int32_t max_depth_;
  size_t max_size_;
  bool may_end_;
  std::vector<Reading> open_;
  std::vector<Caller> callers_;
  std::vector<int32_t> links_;
  std::vector<int32_t> buckets_;  // first caller of each, or -1
  size_t compact_at_ = 256;       // callers and links

  // Of Step, kept for their memory.
  std::vector<Reading> next_;
  std::vector<Reading> arriving_;
  std::vector<Reading> arrived_;
  absl::flat_hash_set<std::pair<int32_t, int32_t>> many_arrived_;
  std::vector<int32_t> group_;
  bool next_may_end_ = false;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_READINGS_H_
