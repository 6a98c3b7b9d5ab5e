// Between the wire and the engine: the only file that knows both proto messages and engine structs.
#ifndef BASED_SERVER_CONVERT_H_
#define BASED_SERVER_CONVERT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "based/v1/completion.pb.h"
#include "based/v1/model.pb.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "server/score_groups.h"

namespace based {

// NOT_FOUND when `requested` names a model other than `served`; empty means the one that is served.
absl::Status CheckModelName(absl::string_view requested, absl::string_view served);

// Checks what only the message can say and copies the rest, which Engine::Submit checks. request_id
// and deadline stay as they are in Request{}.
//   INVALID_ARGUMENT  no prompt; n, best_of, priority or tokens_per_message out of range
//   UNIMPLEMENTED     a field that is not served is set; the message names it
// and, of a chat, the errors of ReadChatAsk and SetChatPrompt, which renders it as `chat` has it.
// Fields are refused unless served: one that is added to the proto cannot be ignored by mistake.
absl::StatusOr<Request> RequestFromProto(const v1::GenerateRequest& message, bool has_tokenizer,
                                         const ChatFormat& chat = {});

// The requests that score the message's pairs; see score_groups.h. deadline stays as it is in
// Request{}.
//   INVALID_ARGUMENT     names the pair and what is wrong with it
//   FAILED_PRECONDITION  text is given and the model has no tokenizer
absl::StatusOr<std::vector<ScoreGroup>> ScoresFromProto(const v1::ScoreRequest& message,
                                                        const Model& model, const Capacity& limits);

// The scores of one pair's tokens.
void ScoreToProto(const std::vector<TokenLogprob>& tokens, bool token_logprobs, v1::Score& message);
void TokenLogprobToProto(const TokenLogprob& logprob, v1::TokenLogprob& message);

v1::GenerateResponse StartedToProto(const Started& started, const std::string& request_id);
v1::GenerateResponse FinishedToProto(const Finished& finished);
v1::FinishReason FinishReasonToProto(FinishReason reason);

// Appends `delta` to what `message` (empty, or a Delta) holds.
void AppendDelta(const Delta& delta, bool token_ids, v1::GenerateResponse& message);

v1::GetModelResponse ModelToProto(const Model& model);
v1::GetCapacityResponse CapacityToProto(const Capacity& capacity);

}  // namespace based

#endif  // BASED_SERVER_CONVERT_H_
