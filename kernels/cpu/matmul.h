// Matrix product of fp32 rows with a packed matrix.
//
// Each sum over the inputs is one chain of multiply-adds in ascending order, in its own SIMD lane:
// bitwise the same whatever the number of rows and the panels of a call.
#ifndef BASED_KERNELS_CPU_MATMUL_H_
#define BASED_KERNELS_CPU_MATMUL_H_

#include <cstdint>

#include "kernels/cpu/packed_matrix.h"
#include "kernels/program.h"

namespace based {

struct MatmulArgs {
  const PackedMatrix* matrix = nullptr;
  const float* in = nullptr;  // [rows, matrix->inputs]
  int64_t in_stride = 0;
  int64_t rows = 0;
  Epilogue epilogue = Epilogue::kStore;  // kSwiGlu if and only if the matrix is gated
  float* out = nullptr;                  // [rows, matrix->outputs]
  int64_t out_stride = 0;
};

// Result panels [begin, end) of matrix->units().
void Matmul(const MatmulArgs& args, int64_t begin, int64_t end);

}  // namespace based

#endif  // BASED_KERNELS_CPU_MATMUL_H_
