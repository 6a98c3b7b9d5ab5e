#include "server/tokenizer_service.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/status.h"

namespace based {
namespace {

grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context,
                                      const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(FailCall(context, status, FailedAt::kAdmission));
  return reactor;
}

absl::Status CheckTokenizer(const Model& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("model '", model.name,
                   "' has no tokenizer; use token ids, or start the daemon with --tokenizer"));
}

}  // namespace

absl::Status TokenizerService::Tokenize(const v1::TokenizeRequest& request,
                                        v1::TokenizeResponse& response) const {
  BASED_RETURN_IF_ERROR(CheckModelName(request.model(), model_.name));
  BASED_RETURN_IF_ERROR(CheckTokenizer(model_));
  if (const size_t at = FindInvalidUtf8(request.text()); at != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("text is not UTF-8 at byte ", at, "; expected UTF-8 text"));
  }
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, model_.tokenizer->Encode(request.text()));
  response.mutable_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status TokenizerService::Detokenize(const v1::DetokenizeRequest& request,
                                          v1::DetokenizeResponse& response) const {
  BASED_RETURN_IF_ERROR(CheckModelName(request.model(), model_.name));
  BASED_RETURN_IF_ERROR(CheckTokenizer(model_));
  const bool skip_special = !request.has_skip_special() || request.skip_special();
  Utf8Stream utf8;
  std::string text;
  for (int i = 0; i < request.ids_size(); ++i) {
    const int32_t id = request.ids(i);
    if (id < 0 || id >= model_.config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("ids[", i, "] is ", id,
                                                     "; expected a token id in [0, ",
                                                     model_.config.vocab_size, ")"));
    }
    text += utf8.Push(model_.tokenizer->Bytes(id, skip_special));
  }
  text += utf8.Finish();
  response.set_text(std::move(text));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* TokenizerService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  return FinishUnary(context, Tokenize(*request, *response));
}

grpc::ServerUnaryReactor* TokenizerService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return FinishUnary(context, Detokenize(*request, *response));
}

}  // namespace based
