// The queue between engine and gRPC: merging, its bound, and how a stream ends.
#include "server/generate_stream.h"

#include <chrono>
#include <thread>

#include "gtest/gtest.h"

namespace based {
namespace {

// A reactor that no call is bound to: gRPC keeps the first write as backlog, so the stream behaves
// as if its reader never reads.
class UnboundReactor final : public GenerateStream::Reactor {
 public:
  void OnDone() override {}
};

Delta OneToken(size_t bytes) {
  return {.text = std::string(bytes, 'x'), .token_ids = {1}, .tokens = 1};
}

TEST(GenerateStream, HoldsTheDocumentedNumberOfTokensForAReaderThatDoesNotRead) {
  UnboundReactor reactor;
  GenerateStream stream(&reactor, nullptr, nullptr, "id", false, 4);
  stream.OnStarted({});  // in flight for ever
  int tokens = 0;
  while (stream.OnDelta(OneToken(1))) ASSERT_LT(++tokens, 1000);
  EXPECT_EQ(tokens, 1 + 3 * GenerateStream::kMergeTokens);
}

TEST(GenerateStream, AFewDeltasThatWaitStaySingle) {
  UnboundReactor reactor;
  GenerateStream stream(&reactor, nullptr, nullptr, "id", false, 8);
  stream.OnStarted({});
  int tokens = 0;
  while (stream.OnDelta(OneToken(1))) ASSERT_LT(++tokens, 1000);
  EXPECT_EQ(tokens, 3 + 5 * GenerateStream::kMergeTokens);
}

TEST(GenerateStream, HoldsTheDocumentedNumberOfBytes) {
  UnboundReactor reactor;
  GenerateStream stream(&reactor, nullptr, nullptr, "id", false, 4);
  stream.OnStarted({});
  int tokens = 0;
  while (stream.OnDelta(OneToken(GenerateStream::kMergeBytes))) ASSERT_LT(++tokens, 1000);
  EXPECT_EQ(tokens, 4);
}

TEST(GenerateStream, DeltasThatCarryNothingTakeNoRoom) {
  UnboundReactor reactor;
  GenerateStream stream(&reactor, nullptr, nullptr, "id", false, 1);
  stream.OnStarted({});
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(stream.OnDelta(OneToken(0)));
  EXPECT_EQ(stream.summary().delivered_tokens, 1000);
}

TEST(GenerateStream, AStreamThatIsCutSaysHowFarItGot) {
  constexpr std::chrono::milliseconds kWait(2);
  UnboundReactor reactor;
  GenerateStream drawing(&reactor, nullptr, nullptr, "id", false, 4);
  GenerateStream echoing(&reactor, nullptr, nullptr, "id", false, 4);
  for (GenerateStream* stream : {&drawing, &echoing}) {
    std::this_thread::sleep_for(kWait);
    stream->OnStarted({});
    ASSERT_TRUE(stream->OnDelta({.text = "the prompt"}));
    std::this_thread::sleep_for(kWait);
    ASSERT_TRUE(stream->OnDelta(stream == &drawing ? OneToken(1) : Delta{}));
    std::this_thread::sleep_for(kWait);
    stream->OnError(absl::DeadlineExceededError("late"));
    const Timings timings = stream->summary().finished.timings;
    EXPECT_GE(timings.queue, kWait);
    EXPECT_GE(timings.prefill, stream == &drawing ? kWait : 2 * kWait);
    EXPECT_GE(timings.decode, stream == &drawing ? kWait : 0 * kWait);
    EXPECT_EQ(timings.decode > kWait / 2, stream == &drawing);
  }
}

TEST(GenerateStream, AStreamThatNeverStartedHasQueuedAllItsTime) {
  const Clock::time_point submitted = Clock::now();
  const CallTimer timer(submitted);
  const Timings timings = timer.CutAt(submitted + std::chrono::seconds(3));
  EXPECT_EQ(timings.queue, std::chrono::seconds(3));
  EXPECT_EQ(timings.prefill.count() + timings.decode.count(), 0);
}

TEST(GenerateStream, AfterAFailedWriteNothingIsKept) {
  UnboundReactor reactor;
  GenerateStream stream(&reactor, nullptr, nullptr, "id", true, 1);
  stream.OnStarted({});
  stream.OnWriteDone(false);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(stream.OnDelta(OneToken(10)));
}

}  // namespace
}  // namespace based
