#include "server/process_memory.h"

#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace based {
namespace {

constexpr int64_t kMiB = 1 << 20;

// What a burst leaves: free blocks below a live one, in the arena of a thread that is not the main
// one, so that the allocator cannot lower its top.
template <typename Peak>
std::unique_ptr<char[]> Burst(Peak at_peak) {
  std::unique_ptr<char[]> last;
  std::thread([&] {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 64 * 256; ++i) {
      blocks.push_back(std::make_unique<char[]>(4096));
      blocks.back()[0] = 1;
    }
    last = std::move(blocks.back());
    at_peak();
  }).join();
  return last;
}

TEST(MemoryTrimmer, GivesBackWhatABurstHasLeft) {
#ifdef BASED_SANITIZED
  GTEST_SKIP() << "the sanitizer's allocator keeps what is freed";
#endif
  MemoryTrimmer trimmer(32 * kMiB);
  const int64_t before = ResidentBytes();
  ASSERT_GT(before, 0);
  // A look while all of it is in use changes nothing.
  const auto last = Burst([&] { trimmer.Tick(); });
  ASSERT_GT(ResidentBytes(), before + 48 * kMiB);
  trimmer.Tick();
  EXPECT_LT(ResidentBytes(), before + 16 * kMiB);
}

TEST(MemoryTrimmer, LeavesLessThanTheGrowthAlone) {
#ifdef BASED_SANITIZED
  GTEST_SKIP() << "the sanitizer's allocator keeps what is freed";
#endif
  MemoryTrimmer trimmer(256 * kMiB);
  const int64_t before = ResidentBytes();
  const auto last = Burst([] {});
  trimmer.Tick();
  EXPECT_GT(ResidentBytes(), before + 48 * kMiB);
}

}  // namespace
}  // namespace based
