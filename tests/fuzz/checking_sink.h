// Hears one request of the engine to its end and aborts where the engine breaks a promise.
#ifndef BASED_TESTS_FUZZ_CHECKING_SINK_H_
#define BASED_TESTS_FUZZ_CHECKING_SINK_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "kernels/base/mutex.h"

namespace based {

class CheckingSink final : public TokenSink {
 public:
  CheckingSink(const Request& request, int32_t vocab_size)
      : request_(request),
        vocab_size_(vocab_size),
        choices_(request.continuations.empty() ? static_cast<size_t>(request.n)
                                               : request.continuations.size()) {}

  void OnStarted(const Started& started) override {
    BASED_CHECK(!std::exchange(started_, true));
    BASED_CHECK(started.prompt_tokens >= 1);
    if (request_.sampling.seed.has_value()) BASED_CHECK(started.seed == *request_.sampling.seed);
  }

  bool OnDelta(Delta delta) override {
    BASED_CHECK(started_);
    Choice& choice = ChoiceOf(delta.index);
    BASED_CHECK(!choice.done);
    BASED_CHECK(FindInvalidUtf8(delta.text) == std::string::npos);
    BASED_CHECK(delta.text.empty() || request_.output.text);
    BASED_CHECK(delta.token_ids.empty() || request_.output.token_ids);
    BASED_CHECK(delta.logprobs.empty() || request_.output.logprobs);
    for (const int32_t id : delta.token_ids) BASED_CHECK(id >= 0 && id < vocab_size_);
    choice.ids += delta.token_ids.size();
    choice.logprobs += delta.logprobs.size();
    choice.scores += delta.prompt_logprobs.size();
    CheckScores(delta.prompt_logprobs);
    CheckScores(delta.logprobs);
    return true;
  }

  void OnChoiceFinished(const Finished& finished) override {
    Choice& choice = ChoiceOf(finished.index);
    BASED_CHECK(!std::exchange(choice.done, true));
    if (!request_.continuations.empty()) {
      const auto index = static_cast<size_t>(finished.index);
      const Continuation& own = request_.continuations[index];
      BASED_CHECK(choice.scores == own.ids.size() - static_cast<size_t>(own.unscored));
      BASED_CHECK(finished.generated_tokens == 0);
      return;
    }
    const auto generated = static_cast<size_t>(finished.generated_tokens);
    BASED_CHECK(generated >= 1 && finished.generated_tokens <= request_.stop.max_tokens);
    BASED_CHECK(choice.logprobs <= generated);
    if (request_.output.token_ids && !request_.output.echo) {
      // All, or all but the one that ended it.
      BASED_CHECK(choice.ids == generated || choice.ids + 1 == generated);
    }
    if (finished.reason == FinishReason::kMaxTokens) {
      BASED_CHECK(finished.generated_tokens == request_.stop.max_tokens);
    } else if (finished.reason != FinishReason::kConstraint) {
      BASED_CHECK(finished.generated_tokens > request_.stop.min_tokens);
    }
    BASED_CHECK(finished.reason != FinishReason::kEndOfText || !request_.stop.ignore_eos);
  }

  void OnFinished(const Finished& finished) override {
    OnChoiceFinished(finished);
    for (const Choice& choice : choices_) BASED_CHECK(choice.done);
    End();
  }

  void OnError(const absl::Status& status) override {
    // Rules that leave no id are found when they do; nothing else ends a request of the fuzzer's.
    BASED_CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    End();
  }

  // Waits for the end, which must come within a minute.
  void WaitAndCheck() {
    const auto limit = Clock::now() + std::chrono::minutes(1);
    MutexLock lock(mutex_);
    while (!ended_ && Clock::now() < limit) changed_.WaitUntil(mutex_, limit);
    BASED_CHECK(ended_);
  }

 private:
  struct Choice {
    size_t ids = 0;
    size_t logprobs = 0;
    size_t scores = 0;
    bool done = false;
  };

  Choice& ChoiceOf(int32_t index) {
    BASED_CHECK(index >= 0 && static_cast<size_t>(index) < choices_.size());
    return choices_[static_cast<size_t>(index)];
  }

  void CheckScores(const std::vector<TokenLogprob>& tokens) const {
    for (const TokenLogprob& token : tokens) {
      BASED_CHECK(token.token_id >= 0 && token.token_id < vocab_size_);
      BASED_CHECK(std::isfinite(token.logprob) && token.logprob <= 0);
      BASED_CHECK(static_cast<int32_t>(token.alternatives.size()) == request_.output.top_logprobs);
      BASED_CHECK(std::is_sorted(
          token.alternatives.begin(), token.alternatives.end(),
          [](const TokenScore& a, const TokenScore& b) { return a.logprob > b.logprob; }));
    }
  }

  void End() {
    MutexLock lock(mutex_);
    BASED_CHECK(!std::exchange(ended_, true));
    changed_.NotifyAll();
  }

  const Request request_;
  const int32_t vocab_size_;
  // The delivery thread's own.
  std::vector<Choice> choices_;
  bool started_ = false;

  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace based

#endif  // BASED_TESTS_FUZZ_CHECKING_SINK_H_
