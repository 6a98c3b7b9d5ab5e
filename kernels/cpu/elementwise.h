// Kernels that treat each row, or each channel of a row, on its own.
#ifndef BASED_KERNELS_CPU_ELEMENTWISE_H_
#define BASED_KERNELS_CPU_ELEMENTWISE_H_

#include <cstdint>

namespace based {

// out = in * (mean(in^2) + eps)^(-1/2) * weight, all [width].
void RmsNorm(const float* in, const float* weight, double eps, int64_t width, float* out);

// One sequence's run of rows through a gated short convolution (program.h, ConvMixOp).
struct ConvMixArgs {
  const float* in = nullptr;    // [rows, 2 channels]: a, then g
  const float* taps = nullptr;  // [kernel, channels], oldest first
  float* state = nullptr;       // [kernel - 1, channels]: the rows of a before these, updated
  float* out = nullptr;         // [rows, channels]
  int64_t rows = 0;
  int64_t channels = 0;
  int64_t kernel = 0;
};

// Channels [begin, end).
void ConvMix(const ConvMixArgs& args, int64_t begin, int64_t end);

// Whether no value is NaN or infinite.
bool AllFinite(const float* values, int64_t count);

// Index of the largest value, the lowest on a tie. REQUIRES: AllFinite(values, count), count > 0.
int32_t ArgMax(const float* values, int64_t count);

// Name of the instruction set that the kernels use, as highway calls it.
const char* TargetInUse();

}  // namespace based

#endif  // BASED_KERNELS_CPU_ELEMENTWISE_H_
