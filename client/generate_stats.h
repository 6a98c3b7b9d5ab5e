// What `based generate --stats` says at the end of a call.
#ifndef BASED_CLIENT_GENERATE_STATS_H_
#define BASED_CLIENT_GENERATE_STATS_H_

#include <cstdint>
#include <map>
#include <string>

#include "client/generate_event.h"

namespace based {

// Sums up the completions of one call by what their Dones say. Deltas say nothing of when the first
// token came: they hold the echoed prompt and its log-probabilities too, and several tokens at once
// where those are merged.
class GenerateStats {
 public:
  void Add(const DoneEvent& done);

  // One line without its end. `total_s`: seconds that the call took, as the client saw it. Times of
  // tokens are counted from the call's arrival at the engine; 0 where no completion has ended:
  //   first_token_s  until the first token of all completions was drawn
  //   tokens_per_s   tokens after that one, of all completions together, over the time until the
  //                  last of them
  // finish_reason has those of all completions in the order of their indices.
  std::string Line(double total_s) const;

 private:
  int64_t prompt_tokens_ = 0;
  int64_t generated_tokens_ = 0;
  int64_t first_us_ = 0;
  int64_t last_us_ = 0;
  std::map<int32_t, std::string> reasons_;
};

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_STATS_H_
