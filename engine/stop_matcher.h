// Finds stop strings in text that comes in pieces, without ever emitting part of one.
#ifndef BASED_ENGINE_STOP_MATCHER_H_
#define BASED_ENGINE_STOP_MATCHER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace based {

// The match is the occurrence that completes first in the text; of those that complete at the same
// byte, the longest (it starts first). So the result depends on the whole text alone, never on how
// it was cut into pieces: matching as early as the text allows is what makes holding back minimal.
// With "bc" and "abcd" the text "abcd" therefore stops at "bc" and emits "a".
//
// Text and stop strings are valid UTF-8, so a match begins and ends between characters.
// Linear in the text (Aho-Corasick). Not thread-safe: one matcher per sequence.
class StopMatcher {
 public:
  struct Emit {
    std::string text;                    // may be sent at once: no stop string touches it
    std::optional<std::string> matched;  // the stop string found; the text before it is all emitted
  };

  // Empty stop strings are ignored. The caller bounds their number and size.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Emits all but the longest suffix that may still become a stop string. After a match, whatever
  // follows is dropped and every later call emits nothing.
  Emit Push(std::string_view text);

  // The end of the text: what was held back, now that it cannot become a stop string.
  std::string Finish();

 private:
  // State of the automaton: a prefix of a stop string, the longest that ends the text so far.
  struct Node {
    std::vector<std::pair<char, int32_t>> children;
    int32_t fallback = 0;  // node of the longest proper suffix that is a prefix too
    int32_t depth = 0;     // bytes of the prefix: how much must be held back
    int32_t stop = -1;     // longest stop string that ends here, index into stops_
  };

  int32_t Child(int32_t node, char byte) const;  // -1: none
  int32_t Step(int32_t node, char byte) const;
  void Insert(int32_t stop);
  void LinkFallbacks();

  std::vector<std::string> stops_;
  std::vector<Node> nodes_;
  int32_t state_ = 0;
  std::string held_;  // the last nodes_[state_].depth bytes of the text
  bool matched_ = false;
};

}  // namespace based

#endif  // BASED_ENGINE_STOP_MATCHER_H_
