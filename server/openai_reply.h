// The answer of one OpenAI call, made from what the engine says: whole, or as server-sent events.
// Not thread-safe: the call holds its lock.
#ifndef BASED_SERVER_OPENAI_REPLY_H_
#define BASED_SERVER_OPENAI_REPLY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/tokenizer.h"
#include "server/http_server.h"
#include "server/openai_error.h"

namespace based {

// What is said in every answer, and what shapes it.
struct OpenAiReplyOptions {
  bool chat = false;
  std::string id;       // "cmpl-..." or "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;
  std::string fingerprint;
  std::vector<HttpHeader> headers;
  bool include_usage = false;
  bool logprobs = false;
  bool top_logprobs = false;
  bool token_ids = false;
  int32_t prompts = 1;
  int32_t n = 1;                         // completions of each prompt
  const Tokenizer* tokenizer = nullptr;  // may be null
  size_t queue_bytes = 256 << 10;        // that may wait for a stream's reader
};

struct OpenAiUsage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

class OpenAiReply {
 public:
  virtual ~OpenAiReply() = default;

  // All prompts are admitted and the first has started.
  virtual void Begin() = 0;
  // False when the reader is too slow, or the answer too large to keep.
  virtual bool OnDelta(int32_t prompt, const Delta& delta) = 0;
  virtual void OnChoiceFinished(int32_t prompt, const Finished& finished) = 0;
  // The last call, one of the two.
  virtual void Finish(const OpenAiUsage& usage) = 0;
  virtual void Fail(const OpenAiError& error) = 0;
};

// `exchange` is answered through the reply alone.
std::unique_ptr<OpenAiReply> NewWholeReply(OpenAiReplyOptions options,
                                           std::shared_ptr<HttpExchange> exchange);
// Bytes that wait for the reader are at most options.queue_bytes and what is echoed of the prompt.
std::unique_ptr<OpenAiReply> NewStreamReply(OpenAiReplyOptions options,
                                            std::shared_ptr<HttpExchange> exchange);

// "stop" or "length".
const char* FinishReasonText(FinishReason reason);
// What stopped it, as vLLM's `stop_reason`: a JSON string, a token id or null.
std::string StopReasonJson(const Finished& finished);
// {"prompt_tokens":..,"completion_tokens":..,"total_tokens":..}
std::string UsageJson(const OpenAiUsage& usage);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_REPLY_H_
