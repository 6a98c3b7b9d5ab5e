#include "kernels/cpu/roofline.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 12;

// Multiply-adds in 12 independent chains; returns their sum so that none is left out.
float MultiplyAdds(int64_t rounds) {
  const hn::CappedTag<float, 16> d;
  hn::Vec<decltype(d)> sums[kChains];
  HWY_UNROLL(12)
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Set(d, 0.1f * static_cast<float>(c));
  const auto x = hn::Set(d, 0.999f);
  for (int64_t i = 0; i < rounds; ++i) {
    HWY_UNROLL(12)
    for (int c = 0; c < kChains; ++c) sums[c] = hn::MulAdd(sums[c], x, x);
  }
  float total = 0;
  for (int c = 0; c < kChains; ++c) total += hn::GetLane(hn::SumOfLanes(d, sums[c]));
  return total;
}

// Floating-point operations of one round.
int64_t RoundFlops() {
  return 2 * kChains * static_cast<int64_t>(hn::Lanes(hn::CappedTag<float, 16>()));
}

float ReadAll(const float* data, int64_t floats) {
  const hn::CappedTag<float, 16> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d);
  auto b = hn::Zero(d);
  auto c = hn::Zero(d);
  auto e = hn::Zero(d);
  for (int64_t i = 0; i + 4 * lanes <= floats; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, data + i));
    b = hn::Add(b, hn::LoadU(d, data + i + lanes));
    c = hn::Add(c, hn::LoadU(d, data + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, data + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace based {
namespace {

HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(RoundFlops);
HWY_EXPORT(ReadAll);

constexpr size_t kSinkStride = 16;  // floats of a cache line

double BestSeconds(clockid_t clock, int32_t repeats, const std::function<void()>& body) {
  double best = 1e9;
  for (int32_t r = 0; r < repeats; ++r) {
    const double start = Seconds(clock);
    body();
    best = std::min(best, Seconds(clock) - start);
  }
  return best;
}

}  // namespace

double Seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double MeasureFlops(ThreadPool& pool, int32_t repeats, clockid_t clock) {
  constexpr int64_t kRounds = 200'000;
  std::vector<float> sinks(static_cast<size_t>(pool.threads()) * kSinkStride);
  const double seconds = BestSeconds(clock, repeats, [&] {
    pool.For(pool.threads(), 1, [&](int64_t, int64_t, int32_t thread) {
      sinks[static_cast<size_t>(thread) * kSinkStride] +=
          HWY_DYNAMIC_DISPATCH(MultiplyAdds)(kRounds);
    });
  });
  return pool.threads() * static_cast<double>(kRounds * HWY_DYNAMIC_DISPATCH(RoundFlops)()) /
         seconds;
}

double MeasureReads(ThreadPool& pool, int64_t bytes, int32_t repeats, clockid_t clock) {
  std::vector<float> sinks(static_cast<size_t>(pool.threads()) * kSinkStride);
  const std::vector<float> values(static_cast<size_t>(bytes / 4), 1.0f);
  const double seconds = BestSeconds(clock, repeats, [&] {
    pool.For(bytes / 4, 1, [&](int64_t begin, int64_t end, int32_t thread) {
      sinks[static_cast<size_t>(thread) * kSinkStride] +=
          HWY_DYNAMIC_DISPATCH(ReadAll)(values.data() + begin, end - begin);
    });
  });
  return static_cast<double>(bytes) / seconds;
}

Roofline MeasureRoofline(ThreadPool& pool, int64_t bytes, int32_t repeats, clockid_t clock) {
  Roofline roofline;
  roofline.flops_per_second = MeasureFlops(pool, repeats * 4, clock);
  roofline.bytes_per_second = MeasureReads(pool, bytes, repeats * 10, clock);
  constexpr int64_t kCopied = 256 << 20;
  const std::vector<char> from(kCopied, 1);
  std::vector<char> to(kCopied);
  const double copy = BestSeconds(clock, repeats, [&] {
    pool.For(kCopied, 1, [&](int64_t begin, int64_t end, int32_t) {
      std::memcpy(to.data() + begin, from.data() + begin, static_cast<size_t>(end - begin));
    });
  });
  roofline.copy_bytes_per_second = 2.0 * kCopied / copy;
  return roofline;
}

}  // namespace based
#endif  // HWY_ONCE
