// Taylor linear attention of one head over one sequence's run of rows (program.h, TaylorMixOp).
//
// Positions are cut into blocks of kTaylorBlock tokens, aligned to the sequence's start. The state
// holds S and z of the tokens before the current block, and the block's own (k, v) rows so far. An
// output is phi(q) . S plus the block's rows by the polynomial; a block's contributions are summed
// first and added to S once, when its last token has come. So S is read once per token and written
// once per block, and no sum depends on where spans were cut.
#ifndef BASED_KERNELS_CPU_TAYLOR_MIX_H_
#define BASED_KERNELS_CPU_TAYLOR_MIX_H_

#include <cmath>
#include <cstdint>

#include "kernels/cpu/memory.h"

namespace based {

inline constexpr int64_t kTaylorBlock = 16;

// Where the parts of a head's state lie, in floats from its start. k rows are scaled by F^(-1/4).
struct TaylorLayout {
  TaylorLayout(int64_t feature_dim_in, int64_t head_dim_in)
      : feature_dim(feature_dim_in),
        head_dim(head_dim_in),
        features(1 + feature_dim + feature_dim * (feature_dim + 1) / 2),
        features_padded(RoundUp(features, 16)),
        head_padded(RoundUp(head_dim, 16)),
        z(RoundUp(features, 4) * head_padded),
        keys(z + features_padded),
        values(keys + feature_dim * kTaylorBlock),
        floats(values + kTaylorBlock * head_padded),
        scale(static_cast<float>(std::pow(static_cast<double>(feature_dim), -0.25))) {}

  int64_t feature_dim;      // F
  int64_t head_dim;         // E
  int64_t features;         // P
  int64_t features_padded;  // P in whole vectors
  int64_t head_padded;      // E in whole vectors
  // S [P up to a multiple of 4, head_padded] lies at 0; rows and columns beyond P and E are zero.
  int64_t z;       // [features_padded]; z[0], the token count, is not kept here and stays 0
  int64_t keys;    // [F, kTaylorBlock]: k rows of the block, transposed
  int64_t values;  // [kTaylorBlock, head_padded]
  int64_t floats;  // all of it
  float scale;     // F^(-1/4)

  int64_t scratch_floats() const {
    return kTaylorBlock * (features_padded + RoundUp(feature_dim, 16) + 32 + 2 * head_padded);
  }
};

struct TaylorArgs {
  const TaylorLayout* layout = nullptr;
  const float* q = nullptr;  // [rows, F], like k and v with in_stride
  const float* k = nullptr;  // [rows, F]
  const float* v = nullptr;  // [rows, E]
  int64_t in_stride = 0;
  float* out = nullptr;  // [rows, E]
  int64_t out_stride = 0;
  int64_t rows = 0;
  int64_t position = 0;  // tokens before the first row
  double eps = 0;
  float* state = nullptr;    // layout->floats, updated
  float* scratch = nullptr;  // layout->scratch_floats()
};

void TaylorMix(const TaylorArgs& args);

}  // namespace based

#endif  // BASED_KERNELS_CPU_TAYLOR_MIX_H_
