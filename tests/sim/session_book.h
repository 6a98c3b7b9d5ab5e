// Sessions in a simulated day, and what each of them must hold.
#ifndef BASED_TESTS_SIM_SESSION_BOOK_H_
#define BASED_TESTS_SIM_SESSION_BOOK_H_

#include <map>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "engine/session_store.h"
#include "tests/sim/sim_executable.h"

namespace based {

class SessionBook {
 public:
  explicit SessionBook(const SimExecutable& device)
      : store_({.memory = int64_t{1} << 20,
                .image_bytes = device.info().image_bytes,
                .vocab_size = device.info().vocab_size}) {}

  // Makes `sent` the next turn of the conversation `id` and `whole` the same as one request. False
  // when another turn runs.
  bool Join(const std::string& id, SequenceSpec& sent, SequenceSpec& whole) {
    const auto found = conversations_.find(id);
    const bool is_new = found == conversations_.end();
    auto lease = store_.Open("", {.id = id, .create = is_new, .tokens = {}});
    if (!lease.ok()) return false;
    sent.session = *std::move(lease);
    const SessionState& state = sent.session->state();
    if (state.tail != kNone) sent.prompt.insert(sent.prompt.begin(), state.tail);
    sent.history = state.SeenIds();
    if (is_new) return true;
    whole.prompt.insert(whole.prompt.begin(), found->second.begin(), found->second.end());
    return true;
  }

  // The turn of `whole` has drawn its end; what it was given is `tokens`.
  std::string Finish(const std::string& id, const SequenceSpec& whole, std::vector<int32_t> tokens,
                     FinishReason reason) {
    const bool is_stop = reason == FinishReason::kEndOfText || reason == FinishReason::kStopToken;
    if (is_stop && !whole.include_stop) tokens.pop_back();
    std::vector<int32_t>& conversation = conversations_[id];
    conversation = whole.prompt;
    conversation.insert(conversation.end(), tokens.begin(), tokens.end());
    const absl::StatusOr<SessionInfo> info = store_.Get("", id);
    if (!info.ok()) return "its session is not there";
    if (info->tokens != static_cast<int64_t>(conversation.size())) {
      return "its session holds another number of tokens";
    }
    return info->busy ? "its session is in use after its end" : "";
  }

  bool AllFree() {
    for (const SessionInfo& info : store_.List("", "", 1000)) {
      if (info.busy) return false;
    }
    return store_.use().sessions == static_cast<int64_t>(conversations_.size());
  }

 private:
  SessionStore store_;
  std::map<std::string, std::vector<int32_t>> conversations_;
};

}  // namespace based

#endif  // BASED_TESTS_SIM_SESSION_BOOK_H_
