// The whole answer, and what it has in common with the stream.
#include "server/openai_reply.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai_json.h"
#include "server/openai_logprobs.h"

namespace based {
namespace {

// An answer is kept until it is whole. Longer ones must be streamed.
constexpr size_t kMaxWholeBytes = 64 << 20;

class WholeReply final : public OpenAiReply {
 public:
  WholeReply(OpenAiReplyOptions options, std::shared_ptr<HttpExchange> exchange)
      : options_(std::move(options)), exchange_(std::move(exchange)) {
    const auto form =
        options_.chat ? OpenAiLogprobs::Form::kChat : OpenAiLogprobs::Form::kLegacy;
    for (int32_t i = 0; i < options_.prompts * options_.n; ++i) {
      choices_.emplace_back(form, options_.tokenizer, options_.top_logprobs);
    }
  }

  void Begin() override {}

  bool OnDelta(int32_t prompt, const Delta& delta) override {
    Choice& choice = ChoiceOf(prompt, delta.index);
    const size_t before = choice.text.size();
    AppendJsonEscaped(delta.text, choice.text);
    kept_ += choice.text.size() - before;
    const bool echo = delta.tokens == 0;
    if (options_.token_ids && !echo) {
      for (const int32_t id : delta.token_ids) {
        absl::StrAppend(&choice.token_ids, choice.token_ids.empty() ? "" : ",", id);
      }
      kept_ += 8 * delta.token_ids.size();
    }
    if (options_.logprobs) AddLogprobs(prompt, choice, delta, echo);
    return kept_ <= kMaxWholeBytes;
  }

  void OnChoiceFinished(int32_t prompt, const Finished& finished) override {
    Choice& choice = ChoiceOf(prompt, finished.index);
    choice.finish_reason = FinishReasonText(finished.reason);
    choice.stop_reason = StopReasonJson(finished);
  }

  void Finish(const OpenAiUsage& usage) override {
    HttpResponse response{.headers = options_.headers};
    std::string& body = response.body;
    body.reserve(kept_ + 1024);
    absl::StrAppend(&body, "{\"id\":", JsonString(options_.id), ",\"object\":\"",
                    options_.chat ? "chat.completion" : "text_completion",
                    "\",\"created\":", options_.created,
                    ",\"model\":", JsonString(options_.model),
                    ",\"system_fingerprint\":", JsonString(options_.fingerprint),
                    ",\"choices\":[");
    for (size_t i = 0; i < choices_.size(); ++i) AppendChoice(i, body);
    absl::StrAppend(&body, "],\"usage\":", UsageJson(usage), "}");
    exchange_->Respond(std::move(response));
  }

  void Fail(const OpenAiError& error) override {
    HttpResponse response = ErrorResponse(error);
    response.headers.insert(response.headers.end(), options_.headers.begin(),
                            options_.headers.end());
    exchange_->Respond(std::move(response));
  }

 private:
  struct Choice {
    Choice(OpenAiLogprobs::Form form, const Tokenizer* tokenizer, bool top)
        : logprobs(form, tokenizer, top) {}

    std::string text;       // escaped
    std::string token_ids;  // with commas between
    OpenAiLogprobs logprobs;
    const char* finish_reason = "";
    std::string stop_reason = "null";
  };

  Choice& ChoiceOf(int32_t prompt, int32_t index) {
    return choices_[static_cast<size_t>(prompt * options_.n + index)];
  }

  void AddLogprobs(int32_t prompt, Choice& choice, const Delta& delta, bool echo) {
    if (echo && !delta.token_ids.empty() && !choice.logprobs.begun()) {
      choice.logprobs.AddFirst(delta.token_ids.front());
    }
    // The prompt's come once, for all its completions.
    for (const TokenLogprob& token : delta.prompt_logprobs) {
      for (int32_t i = 0; i < options_.n; ++i) ChoiceOf(prompt, i).logprobs.Add(token);
    }
    for (const TokenLogprob& token : delta.logprobs) choice.logprobs.Add(token);
    constexpr size_t kBytesPerScore = 64;
    for (const auto* tokens : {&delta.prompt_logprobs, &delta.logprobs}) {
      for (const TokenLogprob& token : *tokens) {
        kept_ += kBytesPerScore * (1 + token.alternatives.size());
      }
    }
  }

  void AppendChoice(size_t index, std::string& body) {
    Choice& choice = choices_[index];
    absl::StrAppend(&body, index == 0 ? "" : ",", "{\"index\":", index);
    if (options_.chat) {
      absl::StrAppend(&body, ",\"message\":{\"role\":\"assistant\",\"content\":\"", choice.text,
                      "\",\"refusal\":null}");
    } else {
      absl::StrAppend(&body, ",\"text\":\"", choice.text, "\"");
    }
    if (options_.token_ids) absl::StrAppend(&body, ",\"token_ids\":[", choice.token_ids, "]");
    absl::StrAppend(&body, ",\"logprobs\":",
                    options_.logprobs ? choice.logprobs.Take() : std::string("null"),
                    ",\"finish_reason\":\"", choice.finish_reason,
                    "\",\"stop_reason\":", choice.stop_reason, "}");
  }

  const OpenAiReplyOptions options_;
  const std::shared_ptr<HttpExchange> exchange_;
  std::vector<Choice> choices_;
  size_t kept_ = 0;  // bytes, about
};

}  // namespace

std::unique_ptr<OpenAiReply> NewWholeReply(OpenAiReplyOptions options,
                                           std::shared_ptr<HttpExchange> exchange) {
  return std::make_unique<WholeReply>(std::move(options), std::move(exchange));
}

const char* FinishReasonText(FinishReason reason) {
  return reason == FinishReason::kMaxTokens ? "length" : "stop";
}

std::string StopReasonJson(const Finished& finished) {
  switch (finished.reason) {
    case FinishReason::kStopString:
      return JsonString(finished.stop_string);
    case FinishReason::kStopToken:
      return absl::StrCat(finished.stop_token_id);
    default:
      return "null";
  }
}

std::string UsageJson(const OpenAiUsage& usage) {
  return absl::StrCat("{\"prompt_tokens\":", usage.prompt_tokens,
                      ",\"completion_tokens\":", usage.completion_tokens,
                      ",\"total_tokens\":", usage.prompt_tokens + usage.completion_tokens, "}");
}

}  // namespace based
