#include "engine/echo.h"

#include "engine/utf8.h"

namespace based {

void SetEcho(const Request& request, const std::vector<int32_t>& prompt, const Tokenizer* tokenizer,
             DeliveryStream& stream) {
  if (request.output.token_ids) stream.echo_token_ids = prompt;
  if (!request.output.text) return;
  if (request.prompt_is_text) {
    stream.echo_text = request.prompt_text;
    return;
  }
  Utf8Stream utf8;
  for (const int32_t id : request.prompt_token_ids) {
    stream.echo_text += utf8.Push(tokenizer->Bytes(id, /*skip_special=*/true));
  }
  stream.echo_text += utf8.Finish();
}

}  // namespace based
