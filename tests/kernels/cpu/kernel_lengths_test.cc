// The kernels that work along a row, at every length from nothing to two whole vectors and one
// value more, against plain sums in double; and bit for bit when a sequence is cut into calls.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/taylor_mix.h"
#include "kernels/cpu/window_mix.h"
#include "tests/kernels/cpu/every_target.h"

namespace based {
namespace {

constexpr int64_t kLongest = 2 * 16 + 1;  // no target has more than 16 lanes here
constexpr int64_t kSlack = 16;            // a store may rewrite what lies behind, with itself
constexpr float kUntouched = -7.25f;

BASED_ON_EVERY_TARGET();

// A result with untouched values behind it.
std::vector<float> Result(int64_t count) {
  return std::vector<float>(static_cast<size_t>(count + kSlack), kUntouched);
}

void ExpectUntouchedFrom(const std::vector<float>& result, int64_t count) {
  for (auto i = static_cast<size_t>(count); i < result.size(); ++i) {
    ASSERT_EQ(result[i], kUntouched) << "value " << i << " behind " << count;
  }
}

Memory Zeros(int64_t floats) {
  Memory memory = *Memory::Allocate("test", std::max<int64_t>(floats, 1) * 4);
  std::fill_n(memory.floats(), floats, 0.0f);
  return memory;
}

double Dot(const float* a, const float* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Lengths of the calls that a sequence of `rows` is cut into.
std::vector<std::vector<int64_t>> Cuts(int64_t rows) {
  std::vector<int64_t> uneven;
  for (int64_t done = 0, next = 1; done < rows; next = next * 2 + 1) {
    uneven.push_back(std::min(next, rows - done));
    done += uneven.back();
  }
  return {{rows}, std::vector<int64_t>(static_cast<size_t>(rows), 1), uneven, {0, rows, 0}};
}

TEST_P(EveryTarget, RmsNorm) {
  for (int64_t width = 0; width <= kLongest; ++width) {
    const std::vector<float> in = Random(width);
    const std::vector<float> weight = Random(width);
    std::vector<float> out = Result(width);
    RmsNorm(in.data(), weight.data(), 1e-5, width, out.data());
    ExpectUntouchedFrom(out, width);
    const double mean = Dot(in.data(), in.data(), width) / static_cast<double>(width);
    for (size_t i = 0; i < in.size(); ++i) {
      const double want = in[i] / std::sqrt(mean + 1e-5) * weight[i];
      ASSERT_NEAR(out[i], want, 1e-6 * std::abs(want)) << width;
    }
  }
}

TEST_P(EveryTarget, AllFiniteOfNothing) { EXPECT_TRUE(AllFinite(nullptr, 0)); }

struct ConvCase {
  int64_t channels, kernel, rows;
  std::vector<float> in, taps;

  // Channels [0, border) and [border, channels) on their own, rows in calls of these lengths.
  std::vector<float> Run(const std::vector<int64_t>& cut, int64_t border,
                         std::vector<float>& state) const {
    std::vector<float> out = Result(rows * channels);
    state.assign(static_cast<size_t>((kernel - 1) * channels + kSlack), 0.0f);
    int64_t row = 0;
    for (const int64_t count : cut) {
      const ConvMixArgs args{in.data() + row * 2 * channels, taps.data(), state.data(),
                             out.data() + row * channels,    count,       channels,
                             kernel};
      ConvMix(args, 0, border);
      ConvMix(args, border, channels);
      row += count;
    }
    ExpectUntouchedFrom(out, rows * channels);
    return out;
  }

  double Want(int64_t row, int64_t channel) const {
    double sum = 0;
    for (int64_t i = 0; i < kernel; ++i) {
      const int64_t from = row - kernel + 1 + i;
      if (from < 0) continue;
      sum += static_cast<double>(taps[static_cast<size_t>(i * channels + channel)]) *
             in[static_cast<size_t>(from * 2 * channels + channel)];
    }
    return sum / (1 + std::exp(-sum)) * in[static_cast<size_t>((row * 2 + 1) * channels + channel)];
  }
};

TEST_P(EveryTarget, ConvMix) {
  for (int64_t channels = 0; channels <= kLongest; ++channels) {
    for (const int64_t kernel : {1, 3, 4}) {
      ConvCase test{channels, kernel, /*rows=*/9, Random(9 * 2 * channels),
                    Random(kernel * channels)};
      std::vector<float> state, whole_state;
      const std::vector<float> whole = test.Run({9}, 0, whole_state);
      for (int64_t row = 0; row < test.rows; ++row) {
        for (int64_t c = 0; c < channels; ++c) {
          ASSERT_NEAR(whole[static_cast<size_t>(row * channels + c)], test.Want(row, c), 3e-5)
              << channels << " channels, kernel " << kernel << ", row " << row;
        }
      }
      for (const auto& cut : Cuts(test.rows)) {
        ASSERT_EQ(test.Run(cut, channels / 2, state), whole);
        ASSERT_EQ(state, whole_state);
      }
    }
  }
}

struct TaylorCase {
  TaylorLayout layout;
  int64_t rows;
  std::vector<float> in;  // [rows, 2 F + E]: q, k, v

  int64_t stride() const { return 2 * layout.feature_dim + layout.head_dim; }

  std::vector<float> Run(const std::vector<int64_t>& cut) const {
    const Memory state = Zeros(layout.floats);
    const Memory scratch = Zeros(layout.scratch_floats());
    std::vector<float> out = Result(rows * layout.head_dim);
    int64_t row = 0;
    for (const int64_t count : cut) {
      const float* q = in.data() + row * stride();
      TaylorMix({.layout = &layout,
                 .q = q,
                 .k = q + layout.feature_dim,
                 .v = q + 2 * layout.feature_dim,
                 .in_stride = stride(),
                 .out = out.data() + row * layout.head_dim,
                 .out_stride = layout.head_dim,
                 .rows = count,
                 .position = row,
                 .eps = 1e-6,
                 .state = state.floats(),
                 .scratch = scratch.floats()});
      row += count;
    }
    ExpectUntouchedFrom(out, rows * layout.head_dim);
    return out;
  }

  std::vector<double> Want(int64_t row) const {
    const int64_t features = layout.feature_dim;
    std::vector<double> sum(static_cast<size_t>(layout.head_dim), 0.0);
    double total = 1e-6;
    for (int64_t u = 0; u <= row; ++u) {
      const float* k = in.data() + u * stride() + features;
      const double s = Dot(in.data() + row * stride(), k, features) /
                       std::sqrt(static_cast<double>(features));
      const double p = 1 + s + s * s / 2;
      total += p;
      for (size_t e = 0; e < sum.size(); ++e) sum[e] += p * k[features + static_cast<int64_t>(e)];
    }
    for (double& value : sum) value /= total;
    return sum;
  }
};

TEST_P(EveryTarget, TaylorMix) {
  constexpr int64_t kRows = 2 * kTaylorBlock + 1;
  for (int64_t length = 1; length <= kLongest; ++length) {
    for (const auto& [features, head] : {std::pair{length, int64_t{5}}, {int64_t{6}, length}}) {
      const TaylorCase test{TaylorLayout(features, head), kRows,
                            Random(kRows * (2 * features + head))};
      const std::vector<float> whole = test.Run({kRows});
      for (int64_t row = 0; row < kRows; ++row) {
        const std::vector<double> want = test.Want(row);
        for (size_t e = 0; e < want.size(); ++e) {
          ASSERT_NEAR(whole[static_cast<size_t>(row * head) + e], want[e], 2e-5)
              << features << " features, head of " << head << ", row " << row;
        }
      }
      for (const auto& cut : Cuts(kRows)) ASSERT_EQ(test.Run(cut), whole);
    }
  }
}

struct WindowCase {
  WindowLayout layout;
  int64_t rows;
  std::vector<float> in;      // [rows, 3 E]: q, k, v; and kSlack behind
  std::vector<float> cosine;  // [rows, angle_stride]
  std::vector<float> sine;

  int64_t stride() const { return 3 * layout.head_dim; }
  int64_t angle_stride() const { return RoundUp(layout.head_dim / 2, 16); }

  std::vector<float> Run(const std::vector<int64_t>& cut) const {
    const Memory state = Zeros(layout.floats);
    const Memory scratch = Zeros(layout.scratch_floats());
    const Memory angles = Zeros(2 * rows * angle_stride());
    std::copy(cosine.begin(), cosine.end(), angles.floats());
    std::copy(sine.begin(), sine.end(), angles.floats() + rows * angle_stride());
    std::vector<float> out = Result(rows * layout.head_dim);
    int64_t row = 0;
    for (const int64_t count : cut) {
      const float* q = in.data() + row * stride();
      WindowMix({.layout = &layout,
                 .q = q,
                 .k = q + layout.head_dim,
                 .v = q + 2 * layout.head_dim,
                 .in_stride = stride(),
                 .cosine = angles.floats() + row * angle_stride(),
                 .sine = angles.floats() + (rows + row) * angle_stride(),
                 .angle_stride = angle_stride(),
                 .out = out.data() + row * layout.head_dim,
                 .out_stride = layout.head_dim,
                 .rows = count,
                 .position = row,
                 .state = state.floats(),
                 .scratch = scratch.floats()});
      row += count;
    }
    ExpectUntouchedFrom(out, rows * layout.head_dim);
    return out;
  }

  // q (part 0) or k (part 1) of a row, turned.
  std::vector<double> Turned(int64_t row, int64_t part) const {
    const int64_t half = layout.head_dim / 2;
    const float* from = in.data() + row * stride() + part * layout.head_dim;
    std::vector<double> turned(static_cast<size_t>(layout.head_dim));
    for (int64_t i = 0; i < half; ++i) {
      const double c = cosine[static_cast<size_t>(row * angle_stride() + i)];
      const double s = sine[static_cast<size_t>(row * angle_stride() + i)];
      turned[static_cast<size_t>(i)] = from[i] * c - from[half + i] * s;
      turned[static_cast<size_t>(half + i)] = from[half + i] * c + from[i] * s;
    }
    return turned;
  }

  std::vector<double> Want(int64_t row) const {
    const std::vector<double> q = Turned(row, 0);
    std::vector<double> sum(q.size(), 0.0);
    double total = 0;
    for (int64_t u = std::max<int64_t>(0, row - layout.ring + 1); u <= row; ++u) {
      const std::vector<double> k = Turned(u, 1);
      double score = 0;
      for (size_t e = 0; e < k.size(); ++e) score += q[e] * k[e];
      const double weight = std::exp(score / std::sqrt(static_cast<double>(layout.head_dim)));
      total += weight;
      const float* v = in.data() + u * stride() + 2 * layout.head_dim;
      for (size_t e = 0; e < sum.size(); ++e) sum[e] += weight * v[e];
    }
    for (double& value : sum) value /= total;
    return sum;
  }
};

TEST_P(EveryTarget, WindowMix) {
  for (int64_t length = 0; length <= kLongest; ++length) {
    // A window of each length, and a head of each even width.
    for (const auto& [head, left] : {std::pair{int64_t{6}, length}, {2 * length + 2, int64_t{4}}}) {
      const int64_t rows = left + 9;
      WindowCase test{WindowLayout(head, left), rows, Random(rows * 3 * head + kSlack), {}, {}};
      const int64_t angles = rows * test.angle_stride();
      for (const float angle : Random(angles)) {
        test.cosine.push_back(std::cos(angle));
        test.sine.push_back(std::sin(angle));
      }
      const std::vector<float> whole = test.Run({rows});
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<double> want = test.Want(row);
        for (size_t e = 0; e < want.size(); ++e) {
          ASSERT_NEAR(whole[static_cast<size_t>(row * head) + e], want[e], 2e-5)
              << "head of " << head << ", " << left << " to the left, row " << row;
        }
      }
      for (const auto& cut : Cuts(rows)) ASSERT_EQ(test.Run(cut), whole);
    }
  }
}

}  // namespace
}  // namespace based
