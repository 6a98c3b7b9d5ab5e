// How a request with a session becomes a sequence that goes on from the session's state.
#ifndef BASED_ENGINE_SESSION_START_H_
#define BASED_ENGINE_SESSION_START_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/delivery.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/session_store.h"

namespace based {

// The request's session; null without one. INVALID_ARGUMENT where a request cannot have one, and
// the errors of SessionStore::Open.
absl::StatusOr<std::shared_ptr<SessionLease>> OpenSession(const Request& request,
                                                          SessionStore& store);

// As PromptTokens; empty where the request's prompt is and the session (may be null) holds a token
// to go on from. INVALID_ARGUMENT where it holds others but none such.
absl::StatusOr<std::vector<int32_t>> PromptAfter(const SessionLease* session,
                                                 const Request& request, const Model& model,
                                                 const EngineOptions& limits);

// Makes `spec`, whose session is not null and whose prompt is the request's own, and `started` the
// continuation's.
void ContinueSession(const Request& request, const Model& model, SequenceSpec& spec,
                     Started& started);

}  // namespace based

#endif  // BASED_ENGINE_SESSION_START_H_
