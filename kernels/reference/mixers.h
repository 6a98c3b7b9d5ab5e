// The ops that look back, as plain recurrences: one token of one sequence at a time, in fp64. The
// equations stand in program.h.
//
// `state` is the mixer's part of a slot: all zeros for an empty sequence, changed by every token.
// `position` counts the sequence's tokens before this one.
#ifndef BASED_KERNELS_REFERENCE_MIXERS_H_
#define BASED_KERNELS_REFERENCE_MIXERS_H_

#include <cstdint>

#include "kernels/program.h"
#include "kernels/reference/matrix.h"

namespace based::reference {

// State: the last K-1 rows of a, oldest first, [K-1, C].
int64_t StateSize(const ConvMixOp& op);
void ConvMixToken(const ConvMixOp& op, const Matrix& taps, const double* in, double* state,
                  double* out);

// State: per head S [P, E], then z [P], with P = 1 + F + F (F + 1) / 2 packed features.
int64_t StateSize(const TaylorMixOp& op);
void TaylorMixToken(const TaylorMixOp& op, int64_t position, const double* in, double* state,
                    double* out);

// State: W rows of rotated k [HE], then W rows of v [HE]; token u lies in row u mod W.
int64_t StateSize(const WindowMixOp& op);
void WindowMixToken(const WindowMixOp& op, int64_t position, const double* in, double* state,
                    double* out);

}  // namespace based::reference

#endif  // BASED_KERNELS_REFERENCE_MIXERS_H_
