// What the daemon does at one moment, for people: as JSON, as a page, as AdminService's status.
#ifndef BASED_SERVER_DEBUG_VIEW_H_
#define BASED_SERVER_DEBUG_VIEW_H_

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/engine.h"
#include "server/live_requests.h"
#include "server/step_profile.h"

namespace based {

struct DebugView {
  enum class State : uint8_t { kLoading, kReady, kDraining, kFailed };

  State state = State::kLoading;
  double uptime_s = 0;
  std::string model;  // empty while loading, as is `capacity`
  Capacity capacity;
  std::vector<LiveRequest> requests;  // oldest first
  std::vector<EndedRequest> ended;    // the latest first
  double full_tokens_per_second = 0;  // that all slots together can draw; 0: unknown
  ProfileSummary profile;             // of the last seconds
};

// "loading", "ready", "draining" or "failed".
absl::string_view StateName(DebugView::State state);

// Of the requests at most the latest `most_requests`; "live" says how many there are.
std::string DebugJson(const DebugView& view,
                      size_t most_requests = std::numeric_limits<size_t>::max());
// One HTML page without scripts. Everything that a client can choose is escaped.
std::string DebugHtml(const DebugView& view);

}  // namespace based

#endif  // BASED_SERVER_DEBUG_VIEW_H_
