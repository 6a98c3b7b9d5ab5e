// The ops that treat each row by itself, in fp64 and one row at a time. The equations stand in
// program.h; the functions follow them literally.
#ifndef BASED_KERNELS_REFERENCE_OPS_H_
#define BASED_KERNELS_REFERENCE_OPS_H_

#include <vector>

#include "kernels/program.h"
#include "kernels/reference/matrix.h"

namespace based::reference {

double Silu(double u);

// out = x * (mean(x^2) + eps)^(-1/2) * weight        weight [1, D]; x and out [D], may be the same
void Norm(const Matrix& weight, double eps, const double* x, double* out);

// out = W x + bias, W the row-wise stack of `weights`, each [n_i, width(x)]; bias [1, N] or null;
// out [N]
void MultiplyStacked(const std::vector<const Matrix*>& weights, const Matrix* bias, const double* x,
                     double* out);

// Stores y [N] into out as the epilogue says: N values, or N / 2 for SwiGLU.
void ApplyEpilogue(Epilogue epilogue, const std::vector<double>& y, double* out);

}  // namespace based::reference

#endif  // BASED_KERNELS_REFERENCE_OPS_H_
