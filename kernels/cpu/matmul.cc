#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {
namespace {

constexpr int64_t kHalf = kPanel / 2;
constexpr int64_t kVectors = kHalf / kLanes;  // vector pairs of a panel
constexpr int64_t kTile = 2 * kPanel;         // columns computed at a time: two panels
constexpr int64_t kMaxRows = kManyRegisters ? 6 : 4;

// Readers of one vector pair of a panel: outputs [i, i + kLanes) and [i + 16, i + 16 + kLanes).
struct ReadF32 {
  static constexpr int64_t kBytes = 4;
  static HWY_INLINE void Read(const std::byte* line, int64_t i, FloatVec& low, FloatVec& high) {
    const auto* values = static_cast<const float*>(static_cast<const void*>(line));
    low = hn::Load(FloatTag(), values + i);
    high = hn::Load(FloatTag(), values + i + kHalf);
  }
};

struct ReadF16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE void Read(const std::byte* line, int64_t i, FloatVec& low, FloatVec& high) {
    const hn::Rebind<hwy::float16_t, FloatTag> d16;
    const auto* values = static_cast<const hwy::float16_t*>(static_cast<const void*>(line));
    low = hn::PromoteTo(FloatTag(), hn::Load(d16, values + i));
    high = hn::PromoteTo(FloatTag(), hn::Load(d16, values + i + kHalf));
  }
};

struct ReadBF16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE void Read(const std::byte* line, int64_t i, FloatVec& low, FloatVec& high) {
    const hn::Rebind<uint32_t, FloatTag> du;
    const auto* words = static_cast<const uint32_t*>(static_cast<const void*>(line));
    const auto pair = hn::Load(du, words + i);
    low = hn::BitCast(FloatTag(), hn::ShiftLeft<16>(pair));
    high = hn::BitCast(FloatTag(), hn::And(pair, hn::Set(du, 0xFFFF0000u)));
  }
};

// tile[r][columns of kPairs vector pairs] = sums over the inputs, for kRows rows. `lines` and
// `columns` say where the pairs lie: the line of input 0, and the column of the low vector.
// The weights `ahead` bytes further on, which come next, are fetched meanwhile when it is not 0.
template <class Reader, int kPairs, int kRows>
HWY_INLINE void SumTile(const MatmulArgs& args, const float* in, const std::byte* const* lines,
                        const int64_t* columns, int64_t ahead, float* tile) {
  const FloatTag d;
  constexpr int64_t kLineBytes = kPanel * Reader::kBytes;
  const int64_t inputs = args.matrix->inputs;
  FloatVec low[kRows][kPairs];
  FloatVec high[kRows][kPairs];
  HWY_UNROLL(6)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int p = 0; p < kPairs; ++p) low[r][p] = high[r][p] = hn::Zero(d);
  }
  for (int64_t k = 0; k < inputs; ++k) {
    FloatVec w_low[kPairs];
    FloatVec w_high[kPairs];
    HWY_UNROLL(4)
    for (int p = 0; p < kPairs; ++p) {
      Reader::Read(lines[p] + k * kLineBytes, columns[p] % kPanel, w_low[p], w_high[p]);
    }
    if (ahead != 0) {
      HWY_UNROLL(4)
      for (int p = 0; p < kPairs; ++p) {
        // Into the second-level cache: the panel in use needs all of the first.
        __builtin_prefetch(lines[p] + k * kLineBytes + ahead, 0, 2);
        if (kLineBytes > 64) __builtin_prefetch(lines[p] + k * kLineBytes + ahead + 64, 0, 2);
      }
    }
    HWY_UNROLL(6)
    for (int r = 0; r < kRows; ++r) {
      const FloatVec x = hn::Set(d, in[r * args.in_stride + k]);
      HWY_UNROLL(4)
      for (int p = 0; p < kPairs; ++p) {
        low[r][p] = hn::MulAdd(x, w_low[p], low[r][p]);
        high[r][p] = hn::MulAdd(x, w_high[p], high[r][p]);
      }
    }
  }
  HWY_UNROLL(6)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int p = 0; p < kPairs; ++p) {
      hn::Store(low[r][p], d, tile + r * kTile + columns[p]);
      hn::Store(high[r][p], d, tile + r * kTile + columns[p] + kHalf);
    }
  }
}

// All columns of `panels` (1 or 2) adjacent panels for kRows rows. Pairs at a time: enough chains
// to hide the latency of a multiply-add, few enough to stay in registers.
template <class Reader, int kRows>
void SumRows(const MatmulArgs& args, const float* in, int64_t panel, int64_t panels, bool fetch,
             float* tile) {
  constexpr int kPairs = kManyRegisters ? 2 : (kRows == 1 ? 4 : (kRows == 2 ? 2 : 1));
  const int64_t panel_bytes = args.matrix->inputs * kPanel * Reader::kBytes;
  const std::byte* lines[2 * kVectors + kPairs];
  int64_t columns[2 * kVectors + kPairs];
  for (int64_t i = 0; i < panels * kVectors; ++i) {
    lines[i] = args.matrix->data + (panel + i / kVectors) * panel_bytes;
    columns[i] = i / kVectors * kPanel + i % kVectors * kLanes;
  }
  const int64_t ahead = fetch ? panels * panel_bytes : 0;
  int64_t i = 0;
  for (; i + kPairs <= panels * kVectors; i += kPairs) {
    SumTile<Reader, kPairs, kRows>(args, in, lines + i, columns + i, ahead, tile);
  }
  for (; i < panels * kVectors; ++i) {
    SumTile<Reader, 1, kRows>(args, in, lines + i, columns + i, ahead, tile);
  }
}

// Adds the bias to a tile row and, for a gated matrix, turns value and gate into the result.
HWY_INLINE void FinishTile(const MatmulArgs& args, const float* bias, int64_t columns,
                           float* tile) {
  const FloatTag d;
  for (int64_t i = 0; i < columns; i += kLanes) {
    hn::Store(hn::Add(hn::Load(d, tile + i), hn::Load(d, bias + i)), d, tile + i);
  }
  if (!args.matrix->gated) return;
  for (int64_t i = 0; i < kPanel; i += kLanes) {
    const FloatVec gate = Silu(hn::Load(d, tile + kPanel + i));
    hn::Store(hn::Mul(hn::Load(d, tile + i), gate), d, tile + i);
  }
}

HWY_INLINE void WriteTile(const MatmulArgs& args, const float* tile, float* out, int64_t count) {
  const FloatTag d;
  for (int64_t i = 0; i < count; i += kLanes) {
    FloatVec y = hn::Load(d, tile + i);
    if (args.epilogue == Epilogue::kAdd) y = hn::Add(LoadFirst(out + i, count - i), y);
    StoreFirst(y, out + i, count - i);
  }
}

template <class Reader>
void SumAnyRows(const MatmulArgs& args, const float* in, int64_t rows, int64_t panel,
                int64_t panels, bool fetch, float* tile) {
  switch (rows) {
    case 1:
      return SumRows<Reader, 1>(args, in, panel, panels, fetch, tile);
    case 2:
      return SumRows<Reader, 2>(args, in, panel, panels, fetch, tile);
    case 3:
      return SumRows<Reader, 3>(args, in, panel, panels, fetch, tile);
    case 4:
      return SumRows<Reader, 4>(args, in, panel, panels, fetch, tile);
    case 5:
      return SumRows < Reader, kMaxRows >= 5 ? 5 : 1 > (args, in, panel, panels, fetch, tile);
    default:
      return SumRows < Reader, kMaxRows >= 6 ? 6 : 1 > (args, in, panel, panels, fetch, tile);
  }
}

template <class Reader>
void MatmulUnits(const MatmulArgs& args, int64_t begin, int64_t end) {
  HWY_ALIGN float tile[kMaxRows * kTile];
  const PackedMatrix& matrix = *args.matrix;
  const int64_t units_at_once = 2 / matrix.panels_per_unit();
  const int64_t blocks = (args.rows + kMaxRows - 1) / kMaxRows;
  for (int64_t unit = begin; unit < end; unit += units_at_once) {
    const int64_t units = std::min(units_at_once, end - unit);
    const int64_t panel = unit * matrix.panels_per_unit();
    const int64_t panels = units * matrix.panels_per_unit();
    const int64_t count = std::min(units * kPanel, matrix.outputs - unit * kPanel);
    for (int64_t block = 0; block < blocks; ++block) {
      // Blocks of nearly equal height: no leftover of one or two rows that would run slowly.
      const int64_t first = args.rows * block / blocks;
      const int64_t rows = args.rows * (block + 1) / blocks - first;
      SumAnyRows<Reader>(args, args.in + first * args.in_stride, rows, panel, panels, block == 0,
                         tile);
      for (int64_t r = 0; r < rows; ++r) {
        FinishTile(args, matrix.bias + panel * kPanel, panels * kPanel, tile + r * kTile);
        WriteTile(args, tile + r * kTile, args.out + (first + r) * args.out_stride + unit * kPanel,
                  count);
      }
    }
  }
}

}  // namespace

void MatmulForTarget(const MatmulArgs& args, int64_t begin, int64_t end) {
  switch (args.matrix->dtype) {
    case DType::kF32:
      return MatmulUnits<ReadF32>(args, begin, end);
    case DType::kF16:
      return MatmulUnits<ReadF16>(args, begin, end);
    case DType::kBF16:
      return MatmulUnits<ReadBF16>(args, begin, end);
  }
}

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace based {

HWY_EXPORT(MatmulForTarget);

void Matmul(const MatmulArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(MatmulForTarget)(args, begin, end);
}

}  // namespace based
#endif  // HWY_ONCE
