// A row-major matrix of doubles: a widened weight or an activation buffer.
#ifndef BASED_KERNELS_REFERENCE_MATRIX_H_
#define BASED_KERNELS_REFERENCE_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace based::reference {

struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;  // [rows, cols]

  const double* row(int64_t index) const { return values.data() + index * cols; }
  double* row(int64_t index) { return values.data() + index * cols; }
  int64_t bytes() const { return static_cast<int64_t>(values.size() * sizeof(double)); }
};

}  // namespace based::reference

#endif  // BASED_KERNELS_REFERENCE_MATRIX_H_
