#include "kernels/reference/ops.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace based::reference {

double Silu(double u) { return u / (1 + std::exp(-u)); }

void Norm(const Matrix& weight, double eps, const double* x, double* out) {
  const int64_t width = weight.cols;
  double sum_of_squares = 0;
  for (int64_t i = 0; i < width; ++i) sum_of_squares += x[i] * x[i];
  const double scale = 1 / std::sqrt(sum_of_squares / static_cast<double>(width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = x[i] * scale * weight.row(0)[i];
}

void MultiplyStacked(const std::vector<const Matrix*>& weights, const Matrix* bias, const double* x,
                     double* out) {
  int64_t n = 0;
  for (const Matrix* weight : weights) {
    for (int64_t r = 0; r < weight->rows; ++r, ++n) {
      double sum = bias == nullptr ? 0 : bias->row(0)[n];
      for (int64_t i = 0; i < weight->cols; ++i) sum += weight->row(r)[i] * x[i];
      out[n] = sum;
    }
  }
}

void ApplyEpilogue(Epilogue epilogue, const std::vector<double>& y, double* out) {
  const size_t width = y.size();
  switch (epilogue) {
    case Epilogue::kStore:
      for (size_t n = 0; n < width; ++n) out[n] = y[n];
      return;
    case Epilogue::kAdd:
      for (size_t n = 0; n < width; ++n) out[n] += y[n];
      return;
    case Epilogue::kSwiGlu:
      for (size_t n = 0; n < width / 2; ++n) out[n] = y[n] * Silu(y[width / 2 + n]);
      return;
  }
}

}  // namespace based::reference
