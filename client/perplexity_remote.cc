// Log-likelihood of text under a daemon's model, by its Score call.
#include <algorithm>

#include "absl/flags/flag.h"
#include "based/v1/completion.grpc.pb.h"
#include "based/v1/model.grpc.pb.h"
#include "based/v1/tokenizer.grpc.pb.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "kernels/base/status.h"

namespace based {
namespace {

class RemoteScorer final : public TextScorer {
 public:
  // Finds out what the daemon's model starts texts with.
  absl::Status Open() {
    v1::GetModelRequest request;
    v1::GetModelResponse response;
    grpc::ClientContext context;
    SetDeadline(context);
    BASED_RETURN_IF_ERROR(
        FromGrpc(v1::ModelService::NewStub(channel_)->GetModel(&context, request, &response)));
    if (!response.has_eos_token_id()) {
      return absl::FailedPreconditionError(
          "the model has no end-of-text token to start windows with");
    }
    eos_token_id_ = response.eos_token_id();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) override {
    v1::TokenizeRequest request;
    request.set_model(absl::GetFlag(FLAGS_model));
    request.set_text(text);
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    SetDeadline(context);
    BASED_RETURN_IF_ERROR(
        FromGrpc(v1::TokenizerService::NewStub(channel_)->Tokenize(&context, request, &response)));
    return std::vector<int32_t>(response.ids().begin(), response.ids().end());
  }

  absl::StatusOr<double> LogProbability(absl::Span<const int32_t> ids, int32_t window) override {
    v1::ScoreRequest request;
    request.set_model(absl::GetFlag(FLAGS_model));
    const auto width = static_cast<size_t>(window);
    for (size_t start = 0; start < ids.size(); start += width) {
      v1::ScorePair& pair = *request.add_pairs();
      pair.mutable_context_ids()->add_ids(eos_token_id_);
      const auto targets = ids.subspan(start, width);
      pair.mutable_continuation_ids()->mutable_ids()->Add(targets.begin(), targets.end());
    }
    v1::ScoreResponse response;
    grpc::ClientContext context;
    SetDeadline(context);
    BASED_RETURN_IF_ERROR(
        FromGrpc(v1::CompletionService::NewStub(channel_)->Score(&context, request, &response)));
    double log_probability = 0;
    for (const v1::Score& score : response.scores()) log_probability += score.logprob();
    return log_probability;
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_ = DaemonChannel();
  int32_t eos_token_id_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextScorer>> ScoreAtDaemon(int32_t) {
  auto scorer = std::make_unique<RemoteScorer>();
  BASED_RETURN_IF_ERROR(scorer->Open());
  return scorer;
}

}  // namespace based
