// The answer as server-sent events: one per Delta, its constant parts written once per stream.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/openai_json.h"
#include "server/openai_logprobs.h"
#include "server/openai_reply.h"

namespace based {
namespace {

// Of an echoed prompt, which comes faster than any reader reads.
constexpr size_t kMaxEchoBytes = 32 << 20;

class StreamReply final : public OpenAiReply {
 public:
  StreamReply(OpenAiReplyOptions options, std::shared_ptr<HttpExchange> exchange)
      : options_(std::move(options)), exchange_(std::move(exchange)) {
    absl::StrAppend(&prefix_, "data: {\"id\":", JsonString(options_.id), ",\"object\":\"",
                    options_.chat ? "chat.completion.chunk" : "text_completion",
                    "\",\"created\":", options_.created,
                    ",\"model\":", JsonString(options_.model), ",\"choices\":[");
    before_text_ = options_.chat ? ",\"delta\":{\"content\":\"" : ",\"text\":\"";
    after_text_ = options_.chat ? "\"}" : "\"";
    suffix_ = options_.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
    plain_end_ = absl::StrCat(after_text_, ",\"logprobs\":null,\"finish_reason\":null", suffix_);
    allowance_ = options_.queue_bytes;
    const auto form =
        options_.chat ? OpenAiLogprobs::Form::kChat : OpenAiLogprobs::Form::kLegacy;
    for (int32_t i = 0; options_.logprobs && i < options_.prompts * options_.n; ++i) {
      logprobs_.emplace_back(form, options_.tokenizer, options_.top_logprobs);
    }
  }

  void Begin() override {
    HttpResponse head{.content_type = "text/event-stream; charset=utf-8",
                      .headers = options_.headers};
    head.headers.push_back({"cache-control", "no-cache"});
    head.headers.push_back({"x-accel-buffering", "no"});  // proxies must not hold events back
    for (int32_t i = 0; options_.chat && i < options_.n; ++i) {
      absl::StrAppend(&head.body, prefix_, "{\"index\":", i,
                      ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                      "\"finish_reason\":null",
                      suffix_);
    }
    exchange_->Begin(std::move(head));
  }

  bool OnDelta(int32_t prompt, const Delta& delta) override {
    event_.clear();
    if (delta.prompt_logprobs.empty()) {
      AppendEvent(prompt, delta.index, delta);
    } else {
      // The prompt's come once, for all its completions.
      for (int32_t i = 0; i < options_.n; ++i) AppendEvent(prompt, i, delta);
    }
    if (event_.empty()) return true;
    // What is told of the prompt comes at once, whatever the reader's speed.
    if (delta.tokens == 0) allowance_ += event_.size();
    return exchange_->Write(event_) <= allowance_ &&
           allowance_ <= options_.queue_bytes + kMaxEchoBytes;
  }

  void OnChoiceFinished(int32_t prompt, const Finished& finished) override {
    event_.clear();
    AppendPrefix(prompt, finished.index);
    absl::StrAppend(&event_, options_.chat ? ",\"delta\":{}" : ",\"text\":\"\"",
                    ",\"logprobs\":null,\"finish_reason\":\"", FinishReasonText(finished.reason),
                    "\",\"stop_reason\":", StopReasonJson(finished), suffix_);
    exchange_->Write(event_);
  }

  void Finish(const OpenAiUsage& usage) override {
    event_.clear();
    if (options_.include_usage) {
      absl::StrAppend(&event_, prefix_, "],\"usage\":", UsageJson(usage), "}\n\n");
    }
    event_ += "data: [DONE]\n\n";
    exchange_->Write(event_);
    exchange_->End();
  }

  // Before Begin nothing has gone out, and the answer is the error; later the stream ends with it.
  void Fail(const OpenAiError& error) override {
    HttpResponse response = ErrorResponse(error);
    response.headers.insert(response.headers.end(), options_.headers.begin(),
                            options_.headers.end());
    // A reader that fell behind gets the error without what it has not read.
    if (error.status == 429) exchange_->DropWaiting();
    exchange_->Write(absl::StrCat("data: ", response.body, "\n\n"));
    exchange_->Respond(std::move(response));
    exchange_->End();
  }

 private:
  void AppendPrefix(int32_t prompt, int32_t index) {
    event_ += prefix_;
    absl::StrAppend(&event_, "{\"index\":", prompt * options_.n + index);
  }

  void AppendEvent(int32_t prompt, int32_t index, const Delta& delta) {
    const bool echo = delta.tokens == 0;
    const bool ids = options_.token_ids && !echo && !delta.token_ids.empty();
    std::string logprobs;
    if (options_.logprobs) logprobs = LogprobsOf(prompt, index, delta);
    if (delta.text.empty() && logprobs.empty() && !ids) return;
    AppendPrefix(prompt, index);
    event_ += before_text_;
    AppendJsonEscaped(delta.text, event_);
    if (logprobs.empty() && !ids) {
      event_ += plain_end_;
      return;
    }
    event_ += after_text_;
    if (ids) absl::StrAppend(&event_, ",\"token_ids\":[", absl::StrJoin(delta.token_ids, ","), "]");
    absl::StrAppend(&event_, ",\"logprobs\":", logprobs.empty() ? "null" : logprobs,
                    ",\"finish_reason\":null", suffix_);
  }

  std::string LogprobsOf(int32_t prompt, int32_t index, const Delta& delta) {
    OpenAiLogprobs& logprobs = logprobs_[static_cast<size_t>(prompt * options_.n + index)];
    const bool echo = delta.tokens == 0 && !delta.token_ids.empty();
    if (echo && !logprobs.begun()) logprobs.AddFirst(delta.token_ids.front());
    for (const TokenLogprob& token : delta.prompt_logprobs) logprobs.Add(token);
    for (const TokenLogprob& token : delta.logprobs) logprobs.Add(token);
    return logprobs.empty() ? std::string() : logprobs.Take();
  }

  const OpenAiReplyOptions options_;
  const std::shared_ptr<HttpExchange> exchange_;
  std::string prefix_;  // up to the choice
  std::string before_text_;
  std::string after_text_;
  std::string suffix_;     // after the choice's last field
  std::string plain_end_;  // what follows the text where there are no log-probabilities
  std::vector<OpenAiLogprobs> logprobs_;
  std::string event_;     // its memory is kept
  size_t allowance_ = 0;  // bytes that may wait for the reader
};

}  // namespace

std::unique_ptr<OpenAiReply> NewStreamReply(OpenAiReplyOptions options,
                                            std::shared_ptr<HttpExchange> exchange) {
  return std::make_unique<StreamReply>(std::move(options), std::move(exchange));
}

}  // namespace based
