// What compiling and keeping a constraint may cost.
#ifndef BASED_ENGINE_CONSTRAINT_CONSTRAINT_LIMITS_H_
#define BASED_ENGINE_CONSTRAINT_CONSTRAINT_LIMITS_H_

#include <chrono>
#include <cstdint>

namespace based {

// Compile refuses with INVALID_ARGUMENT what needs more; the last two bound a matcher at run time.
struct ConstraintLimits {
  // States of all rules' automata together. A state costs at most 1 KiB of tables, typically 300 B.
  int64_t max_states = 65'536;
  // Automata: of the whole text, of rules that recurse, and of larger parts that are used more than
  // once. Any other rule is a part of those that use it, and counts no more than its text would
  // there: a grammar may have more rules than this.
  int64_t max_machines = 16'384;
  // Bytes of the transition tables.
  int64_t max_table_bytes = int64_t{64} << 20;
  // Wall clock of one Compile.
  std::chrono::milliseconds max_compile_time{2'000};
  // Bytes of masks that one constraint keeps; it forgets them all when they are more.
  int64_t max_mask_cache_bytes = int64_t{64} << 20;
  // Nesting of rules in the text, in open rules. Deeper texts are never offered: near the limit a
  // mask holds only tokens of one byte, all of which leave a way to the end.
  int32_t max_depth = 1'024;
  // Open readings of the text so far, in nodes and links of a graph that they share (one reading
  // takes two for each open rule). Where an ambiguous grammar needs more, the matcher follows one
  // reading from there on, so that it accepts fewer texts, but all of them match.
  int32_t max_readings = 4'096;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CONSTRAINT_LIMITS_H_
