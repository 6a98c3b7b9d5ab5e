#include "server/tokenizer_service.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/answer_limit.h"
#include "server/convert.h"
#include "server/status.h"

namespace based {
namespace {

absl::Status CheckTokenizer(const Model& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("model '", model.name,
                   "' has no tokenizer; use token ids, or start the daemon with --tokenizer"));
}

absl::Status TokenizeText(const Model& model, const v1::TokenizeRequest& request,
                          v1::TokenizeResponse& response) {
  BASED_RETURN_IF_ERROR(CheckModelName(request.model(), model.name));
  BASED_RETURN_IF_ERROR(CheckTokenizer(model));
  if (const size_t at = FindInvalidUtf8(request.text()); at != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("text is not UTF-8 at byte ", at, "; expected UTF-8 text"));
  }
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, model.tokenizer->Encode(request.text()));
  response.mutable_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status DetokenizeIds(const Model& model, const v1::DetokenizeRequest& request,
                           v1::DetokenizeResponse& response) {
  BASED_RETURN_IF_ERROR(CheckModelName(request.model(), model.name));
  BASED_RETURN_IF_ERROR(CheckTokenizer(model));
  const bool skip_special = !request.has_skip_special() || request.skip_special();
  Utf8Stream utf8;
  std::string text;
  for (int i = 0; i < request.ids_size(); ++i) {
    const int32_t id = request.ids(i);
    if (id < 0 || id >= model.config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "ids[", i, "] is ", id, "; expected a token id in [0, ", model.config.vocab_size, ")"));
    }
    text += utf8.Push(model.tokenizer->Bytes(id, skip_special));
  }
  text += utf8.Finish();
  response.set_text(std::move(text));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* TokenizerService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  const absl::StatusOr<Gate::Entry> entry = gate_.Enter(*context, std::nullopt);
  const absl::Status status =
      entry.ok() ? TokenizeText(entry->engine.model(), *request, *response) : entry.status();
  return UnaryAnswer::Ended(context, write_timeout_, *response,
                            FailCall(context, status, FailedAt::kAdmission));
}

grpc::ServerUnaryReactor* TokenizerService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const absl::StatusOr<Gate::Entry> entry = gate_.Enter(*context, std::nullopt);
  const absl::Status status =
      entry.ok() ? DetokenizeIds(entry->engine.model(), *request, *response) : entry.status();
  return UnaryAnswer::Ended(context, write_timeout_, *response,
                            FailCall(context, status, FailedAt::kAdmission));
}

}  // namespace based
