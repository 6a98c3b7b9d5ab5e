// Text to ids and back at a daemon.
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/str_join.h"
#include "based/v1/tokenizer.grpc.pb.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "kernels/base/status.h"

namespace based {

absl::Status TokenizeAtDaemon(const std::string& text) {
  const auto stub = v1::TokenizerService::NewStub(DaemonChannel());
  v1::TokenizeRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.set_text(text);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  SetDeadline(context);
  BASED_RETURN_IF_ERROR(FromGrpc(stub->Tokenize(&context, request, &response)));
  std::printf("%s\n", absl::GetFlag(FLAGS_json) ? ToJson(response).c_str()
                                                : absl::StrJoin(response.ids(), ",").c_str());
  return absl::OkStatus();
}

absl::Status DetokenizeAtDaemon(const std::vector<int32_t>& ids) {
  const auto stub = v1::TokenizerService::NewStub(DaemonChannel());
  v1::DetokenizeRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.mutable_ids()->Add(ids.begin(), ids.end());
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  SetDeadline(context);
  BASED_RETURN_IF_ERROR(FromGrpc(stub->Detokenize(&context, request, &response)));
  std::printf("%s\n",
              absl::GetFlag(FLAGS_json) ? ToJson(response).c_str() : response.text().c_str());
  return absl::OkStatus();
}

}  // namespace based
