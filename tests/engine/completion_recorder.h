// What tests of completions share: a tokenizer of letters, a sink that keeps everything, a request
// of ids.
#ifndef BASED_TESTS_ENGINE_COMPLETION_RECORDER_H_
#define BASED_TESTS_ENGINE_COMPLETION_RECORDER_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/tokenizer.h"
#include "kernels/base/mutex.h"

namespace based {

// Id i is the letter 'a' + i % 26; a space is encoded as id 40.
class LetterTokenizer final : public Tokenizer {
 public:
  explicit LetterTokenizer(int32_t vocab_size) : vocab_size_(vocab_size) {}
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(c == ' ' ? 40 : (c - 'a' + 26) % 26);
    return ids;
  }
  std::string_view Bytes(int32_t id, bool) const override {
    static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
    return kLetters.substr(static_cast<size_t>(id % 26), 1);
  }
  int32_t size() const override { return vocab_size_; }

 private:
  const int32_t vocab_size_;
};

// Everything that a request says, per completion.
class Recorder final : public TokenSink {
 public:
  struct Choice {
    std::string text;
    std::vector<int32_t> ids;
    std::vector<TokenLogprob> logprobs;
    std::vector<int32_t> delta_tokens;
    std::vector<Finished> finished;
  };

  explicit Recorder(int32_t n) : choices(static_cast<size_t>(n)) {}
  void OnStarted(const Started& s) override { started = s; }
  bool OnDelta(Delta delta) override {
    Choice& choice = choices.at(static_cast<size_t>(delta.index));
    EXPECT_TRUE(choice.finished.empty());
    choice.text += delta.text;
    choice.ids.insert(choice.ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    choice.delta_tokens.push_back(delta.tokens);
    for (TokenLogprob& l : delta.logprobs) choice.logprobs.push_back(std::move(l));
    for (TokenLogprob& l : delta.prompt_logprobs) prompt_logprobs.push_back(std::move(l));
    return true;
  }
  void OnChoiceFinished(const Finished& finished) override {
    choices.at(static_cast<size_t>(finished.index)).finished.push_back(finished);
  }
  void OnFinished(const Finished& finished) override {
    OnChoiceFinished(finished);
    End(absl::OkStatus());
  }
  void OnError(const absl::Status& status) override { End(status); }

  // Waits for the end, at most a minute.
  absl::Status Wait() {
    const auto limit = Clock::now() + std::chrono::minutes(1);
    MutexLock lock(mutex_);
    while (!ended_ && Clock::now() < limit) changed_.WaitUntil(mutex_, limit);
    return ended_ ? status_ : absl::DeadlineExceededError("no end");
  }

  Started started;
  std::vector<Choice> choices;
  std::vector<TokenLogprob> prompt_logprobs;

 private:
  void End(const absl::Status& status) {
    MutexLock lock(mutex_);
    EXPECT_FALSE(ended_);
    ended_ = true;
    status_ = status;
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

inline Request IdsRequest(std::vector<int32_t> ids, int64_t max_tokens) {
  Request request;
  request.prompt_is_text = false;
  request.prompt_token_ids = std::move(ids);
  request.stop.max_tokens = max_tokens;
  request.stop.ignore_eos = true;
  request.sampling.seed = 7;
  request.output = {.text = true, .token_ids = true};
  return request;
}

}  // namespace based

#endif  // BASED_TESTS_ENGINE_COMPLETION_RECORDER_H_
