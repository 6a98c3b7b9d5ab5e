#include "kernels/cpu/matmul.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/weights.h"
#include "tests/kernels/cpu/every_target.h"

namespace based {
namespace {

BASED_ON_EVERY_TARGET();

// A weight of random bf16, fp16 or fp32 numbers: the top half of an fp32 is bf16, and as fp16 bits
// below 0x7C00 in magnitude are finite.
struct Weight {
  Weight(DType dtype, int64_t rows, int64_t cols, const std::vector<float>& values) {
    const auto bytes = static_cast<size_t>(DTypeBytes(dtype));
    data.resize(values.size() * bytes);
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, &values[i], 4);
      if (dtype == DType::kBF16) bits >>= 16;
      if (dtype == DType::kF16) bits = (bits >> 16 & 0x83FF) | 0x3800;
      std::memcpy(&data[i * bytes], &bits, bytes);
    }
    view = {"w", data.data(), dtype, rows, cols};
  }
  std::vector<std::byte> data;
  WeightView view;
};

TEST_P(EveryTarget, EqualsAPlainSumAtEverySizeAndBitwiseAtEveryBatch) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t outputs : {1, 15, 31, 32, 33, 64, 70, 97}) {
      const int64_t inputs = 1 + outputs / 2;
      const Weight weight(dtype, outputs, inputs, Random(outputs * inputs));
      PackedMatrix matrix = PlanPacking({&weight.view}, false);
      Memory memory = *Memory::Allocate("test", PackedBytes(matrix));
      Pack({&weight.view}, nullptr, memory.data(), matrix);
      constexpr int64_t kRows = 17;
      const std::vector<float> in = Random(kRows * inputs);
      const std::vector<float> wide = WidenWeight<float>(weight.view);
      std::vector<float> alone;
      for (int64_t rows = 1; rows <= kRows; ++rows) {
        std::vector<float> out(static_cast<size_t>(rows * outputs), -7.0f);
        const MatmulArgs args{&matrix,          in.data(),  inputs, rows,
                              Epilogue::kStore, out.data(), outputs};
        // In two calls whose border moves: panels do not depend on each other either.
        const int64_t border = rows % (matrix.units() + 1);
        Matmul(args, 0, border);
        Matmul(args, border, matrix.units());
        std::vector<float> row_by_row(out.size());
        for (int64_t r = 0; r < rows; ++r) {
          Matmul({&matrix, in.data() + r * inputs, inputs, 1, Epilogue::kStore,
                  row_by_row.data() + r * outputs, outputs},
                 0, matrix.units());
        }
        ASSERT_EQ(out, row_by_row) << outputs << " outputs, " << rows << " rows";
        alone = out;
      }
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t n = 0; n < outputs; ++n) {
          double sum = 0;
          double magnitude = 0;
          for (int64_t k = 0; k < inputs; ++k) {
            const double term = static_cast<double>(in[static_cast<size_t>(r * inputs + k)]) *
                                wide[static_cast<size_t>(n * inputs + k)];
            sum += term;
            magnitude += std::abs(term);
          }
          ASSERT_NEAR(alone[static_cast<size_t>(r * outputs + n)], sum,
                      magnitude * 0x1p-24 * static_cast<double>(inputs + 1));
        }
      }
    }
  }
}

TEST_P(EveryTarget, FindsTheFirstLargestAndWhatIsNotFinite) {
  for (int64_t count = 1; count <= 35; ++count) {
    std::vector<float> values = Random(count);
    for (float& value : values) value = -std::abs(value) - 1;
    for (int64_t i = 0; i < count; ++i) {
      std::vector<float> changed = values;
      changed[static_cast<size_t>(i)] = changed.back() = -0.5f;
      EXPECT_EQ(ArgMax(changed.data(), count), i);
      EXPECT_TRUE(AllFinite(changed.data(), count));
      for (const float bad :
           {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
            std::numeric_limits<float>::quiet_NaN()}) {
        changed[static_cast<size_t>(i)] = bad;
        EXPECT_FALSE(AllFinite(changed.data(), count));
      }
    }
  }
}

}  // namespace
}  // namespace based
