// based.v1.TokenizerService over the model's tokenizer.
#ifndef BASED_SERVER_TOKENIZER_SERVICE_H_
#define BASED_SERVER_TOKENIZER_SERVICE_H_

#include <chrono>

#include "based/v1/tokenizer.grpc.pb.h"
#include "server/gate.h"

namespace based {

class TokenizerService final : public v1::TokenizerService::CallbackService {
 public:
  // `gate` must outlive the service. `write_timeout`: see answer_limit.h.
  TokenizerService(const Gate& gate, std::chrono::milliseconds write_timeout)
      : gate_(gate), write_timeout_(write_timeout) {}

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;

 private:
  const Gate& gate_;
  const std::chrono::milliseconds write_timeout_;
};

}  // namespace based

#endif  // BASED_SERVER_TOKENIZER_SERVICE_H_
