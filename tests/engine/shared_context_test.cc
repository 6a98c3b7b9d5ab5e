// Continuations of one context: scored from a fork of its state they are, bit for bit, what each is
// behind a context of its own, and the context's tokens are computed once.
#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "kernels/base/mutex.h"

namespace based {
namespace {

using Scores = std::vector<std::vector<TokenLogprob>>;  // of each continuation

class CountingObserver final : public Observer {
 public:
  void OnStep(const StepStats& stats) override { prefill_tokens += stats.prefill_tokens; }
  void OnSlots(int32_t, int32_t, int32_t) override {}
  void OnFirstToken(Priority, std::chrono::nanoseconds) override {}
  void OnInterToken(Priority, std::chrono::nanoseconds) override {}
  void OnFinished(Priority, const Finished&) override {}
  void OnError(const absl::Status&) override {}
  void OnRejected(const absl::Status&) override {}

  std::atomic<int64_t> prefill_tokens{0};
};

class ScoreSink final : public TokenSink {
 public:
  explicit ScoreSink(size_t continuations) : scores_(continuations) {}
  void OnStarted(const Started&) override {}
  bool OnDelta(Delta delta) override {
    auto& scores = scores_.at(static_cast<size_t>(delta.index));
    for (TokenLogprob& score : delta.prompt_logprobs) scores.push_back(std::move(score));
    return true;
  }
  void OnChoiceFinished(const Finished& finished) override {
    computed_ += finished.timings.prefill_tokens;
  }
  void OnFinished(const Finished& finished) override {
    OnChoiceFinished(finished);
    End();
  }
  void OnError(const absl::Status& status) override {
    ADD_FAILURE() << status;
    End();
  }

  Scores Wait() {
    MutexLock lock(mutex_);
    while (!ended_) changed_.Wait(mutex_);
    return scores_;
  }
  // Tokens, as the request's end tells; after Wait.
  int64_t computed() const { return computed_; }

 private:
  void End() {
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.NotifyAll();
  }

  Scores scores_;
  int64_t computed_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class SharedContextTest : public ::testing::Test {
 public:
  explicit SharedContextTest(int32_t slots = 3) : slots_(slots) {}

 protected:
  void SetUp() override {
    auto backend = NewBackend({.kind = "cpu", .threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    auto model =
        LoadModel({.model_dir = std::string(BASED_SOURCE_DIR) + "/tests/golden/tiny-b"}, *backend_);
    ASSERT_TRUE(model.ok()) << model.status();
    vocab_size_ = (*model)->config.vocab_size;
    auto engine =
        Engine::Create(*std::move(model), {.slots = slots_, .token_budget = 48}, &observer_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  std::vector<int32_t> RandomIds(size_t count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) {
      id = std::uniform_int_distribution<int32_t>(0, vocab_size_ - 1)(random_);
    }
    return ids;
  }

  std::shared_ptr<ScoreSink> Submit(const std::vector<int32_t>& context,
                                    const std::vector<std::vector<int32_t>>& continuations) {
    std::vector<Continuation> side_by_side;
    for (const auto& ids : continuations) side_by_side.push_back({.ids = ids});
    return SubmitTree(context, std::move(side_by_side));
  }

  std::shared_ptr<ScoreSink> SubmitTree(const std::vector<int32_t>& context,
                                        std::vector<Continuation> continuations) {
    auto sink = std::make_shared<ScoreSink>(continuations.size());
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = context;
    request.output = {.text = false, .top_logprobs = 3, .prompt_logprobs = true};
    request.continuations = std::move(continuations);
    const auto id = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return sink;
  }

  // Since the last call. A step is counted soon after its scores are heard.
  void ExpectComputed(int64_t tokens) {
    computed_ += tokens;
    const auto limit = Clock::now() + std::chrono::seconds(20);
    while (observer_.prefill_tokens < computed_ && Clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(observer_.prefill_tokens, computed_);
  }

  const int32_t slots_;
  int64_t computed_ = 0;
  std::mt19937 random_{20261123};
  CountingObserver observer_;
  int32_t vocab_size_ = 0;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
};

void ExpectEqual(const std::vector<TokenLogprob>& shared, const std::vector<TokenLogprob>& alone,
                 const std::vector<int32_t>& ids) {
  ASSERT_EQ(shared.size(), ids.size());
  ASSERT_EQ(alone.size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(shared[i].token_id, ids[i]);
    EXPECT_EQ(shared[i].logprob, alone[i].logprob) << "token " << i;
    EXPECT_LT(shared[i].logprob, 0);
    EXPECT_EQ(shared[i].most_likely, alone[i].most_likely);
    ASSERT_EQ(shared[i].alternatives.size(), 3u);
    for (size_t a = 0; a < 3; ++a) {
      EXPECT_EQ(shared[i].alternatives[a].id, alone[i].alternatives[a].id);
      EXPECT_EQ(shared[i].alternatives[a].logprob, alone[i].alternatives[a].logprob);
    }
  }
}

TEST_F(SharedContextTest, ScoresAreBitwiseThoseOfContextsOfTheirOwn) {
  for (const size_t context_tokens : {1u, 7u, 90u}) {
    const std::vector<int32_t> context = RandomIds(context_tokens);
    const std::vector<std::vector<int32_t>> continuations = {RandomIds(1), RandomIds(70),
                                                             RandomIds(5)};
    const auto shared = Submit(context, continuations);
    // Something else in the same steps.
    const auto beside = Submit(RandomIds(40), {RandomIds(40)});
    const Scores together = shared->Wait();
    beside->Wait();
    // The context's last token is fed to every fork, the last of a continuation is not fed.
    const auto feeds = static_cast<int64_t>(context_tokens) - 1;
    ExpectComputed(feeds + 76 + 79);
    for (size_t i = 0; i < continuations.size(); ++i) {
      const Scores alone = Submit(context, {continuations[i]})->Wait();
      ExpectEqual(together[i], alone[0], continuations[i]);
    }
    ExpectComputed(3 * feeds + 76);
  }
}

// With how many slots the tree of texts below is computed.
class SharedBeginningsTest : public SharedContextTest,
                             public ::testing::WithParamInterface<int32_t> {
 public:
  SharedBeginningsTest() : SharedContextTest(GetParam()) {}
};

INSTANTIATE_TEST_SUITE_P(Slots, SharedBeginningsTest, ::testing::Values(2, 3, 8));

TEST_P(SharedBeginningsTest, ScoresAreBitwiseThoseOfTheTextsAlone) {
  const std::vector<int32_t> context = RandomIds(50);
  // The second text leaves the first where it is scored already, the third and fourth leave the
  // second, the fifth the fourth.
  const std::vector<Continuation> tree = {
      {.ids = RandomIds(40)},
      {.ids = RandomIds(60), .parent = 0, .shared = 70, .unscored = 7},
      {.ids = RandomIds(3), .parent = 1, .shared = 90},
      {.ids = RandomIds(30), .parent = 1, .shared = 110, .unscored = 29},
      {.ids = RandomIds(1), .parent = 3, .shared = 125},
      {.ids = RandomIds(9), .parent = 0, .shared = 20},
  };
  const auto sink = SubmitTree(context, tree);
  const Scores together = sink->Wait();
  // Of each text all but the last token, and where it leaves another the token before.
  const int64_t once = 90 + 60 + 3 + 30 + 1 + 9 - 1;
  // With two slots one source is all there may be: the third to fifth start where the second does,
  // and each computes again what it shares with that one.
  const int64_t again = GetParam() > 2 ? 0 : (90 - 70) + (110 - 70) + (125 - 70);
  ExpectComputed(once + again);
  EXPECT_EQ(sink->computed(), once + again);

  std::vector<std::vector<int32_t>> texts;
  for (size_t i = 0; i < tree.size(); ++i) {
    std::vector<int32_t> text = i == 0 ? context : texts[static_cast<size_t>(tree[i].parent)];
    if (i > 0) text.resize(static_cast<size_t>(tree[i].shared));
    const auto scored_from =
        static_cast<ptrdiff_t>(text.size()) + static_cast<ptrdiff_t>(tree[i].unscored);
    text.insert(text.end(), tree[i].ids.begin(), tree[i].ids.end());
    const std::vector<int32_t> before(text.begin(), text.begin() + scored_from);
    const std::vector<int32_t> scored(text.begin() + scored_from, text.end());
    const Scores alone = Submit(before, {scored})->Wait();
    ExpectEqual(together[i], alone[0], scored);
    texts.push_back(std::move(text));
  }
}

TEST_F(SharedContextTest, ManyGroupsShareFewSlots) {
  std::vector<std::shared_ptr<ScoreSink>> sinks;
  for (int32_t i = 0; i < 20; ++i) {
    std::vector<std::vector<int32_t>> continuations;
    for (int32_t c = 0; c <= i % 3; ++c) continuations.push_back(RandomIds(4));
    sinks.push_back(Submit(RandomIds(12), std::move(continuations)));
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    const Scores scores = sinks[i]->Wait();
    ASSERT_EQ(scores.size(), i % 3 + 1);
    for (const auto& score : scores) EXPECT_EQ(score.size(), 4u);
  }
}

}  // namespace
}  // namespace based
