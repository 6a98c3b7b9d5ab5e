#include "engine/session_start.h"

#include "absl/strings/str_cat.h"
#include "engine/validate.h"

namespace based {

absl::StatusOr<std::shared_ptr<SessionLease>> OpenSession(const Request& request,
                                                          SessionStore& store) {
  if (request.session.id.empty()) return std::shared_ptr<SessionLease>();
  if (request.best_of > 1 || !request.continuations.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(request.n > 1 ? "n" : "best_of", " is ", request.best_of,
                     "; expected 1 with state.session, which keeps one completion: fork it for "
                     "others"));
  }
  return store.Open(request.tenant, request.session);
}

absl::StatusOr<std::vector<int32_t>> PromptAfter(const SessionLease* session,
                                                 const Request& request, const Model& model,
                                                 const EngineOptions& limits) {
  const bool is_empty =
      request.prompt_is_text ? request.prompt_text.empty() : request.prompt_token_ids.empty();
  if (session == nullptr || !is_empty || session->state().tokens() == 0) {
    return PromptTokens(request, model, limits);
  }
  if (session->state().tail == kNone) {
    return absl::InvalidArgumentError(
        absl::StrCat(request.prompt_is_text ? "text" : "token_ids.ids", " is empty; session '",
                     request.session.id,
                     "' ended at a stop that is not part of it, expected a token to go on from"));
  }
  return std::vector<int32_t>();
}

void ContinueSession(const Request& request, const Model& model, SequenceSpec& spec,
                     Started& started) {
  const SessionState& state = spec.session->state();
  const auto own = static_cast<int64_t>(spec.prompt.size());
  if (state.tail != kNone) spec.prompt.insert(spec.prompt.begin(), state.tail);
  started.reused_tokens = state.position;
  started.prompt_tokens = state.position + static_cast<int64_t>(spec.prompt.size());
  // As without a session: of the prompt's own tokens, from the second on.
  if (request.output.prompt_logprobs) spec.score_from = started.prompt_tokens - own + 1;
  if (request.sampling.repetition_penalty != 1) spec.history = state.SeenIds();
  spec.include_stop = request.stop.include_stop;
  if (!request.stop.strings.empty()) {
    spec.text_stop =
        std::make_shared<TextStop>(*model.tokenizer, request.stop.strings, request.stop.min_tokens);
  }
}

}  // namespace based
