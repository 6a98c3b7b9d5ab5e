// Sliding-window attention of one head over one sequence's run of rows (program.h, WindowMixOp).
//
// Keys and values lie in a ring: position t at place t mod (W + 1). Each token is written before it
// attends, so that the ring holds exactly what it may see, and sums run in the order of places,
// which the position alone determines.
#ifndef BASED_KERNELS_CPU_WINDOW_MIX_H_
#define BASED_KERNELS_CPU_WINDOW_MIX_H_

#include <cstdint>

#include "kernels/cpu/memory.h"

namespace based {

// Where the parts of a head's state lie, in floats from its start.
struct WindowLayout {
  WindowLayout(int64_t head_dim_in, int64_t window_left)
      : head_dim(head_dim_in),
        head_padded(RoundUp(head_dim, 16)),
        ring(window_left + 1),
        ring_padded(RoundUp(ring, 16)),
        values(head_dim * ring_padded),
        floats(values + ring * head_padded) {}

  int64_t head_dim;     // E
  int64_t head_padded;  // E in whole vectors
  int64_t ring;         // W + 1
  int64_t ring_padded;  // W + 1 in whole vectors
  // Rotated keys, transposed [E, ring_padded], lie at 0.
  int64_t values;  // [ring, head_padded]
  int64_t floats;  // all of it

  int64_t scratch_floats() const { return 2 * (head_padded + 32) + ring_padded; }
};

struct WindowArgs {
  const WindowLayout* layout = nullptr;
  // [rows, E], like k and v with in_stride; 16 floats beyond are readable.
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t in_stride = 0;
  const float* cosine = nullptr;  // [rows, angle_stride], of which E / 2 are used
  const float* sine = nullptr;    // [rows, angle_stride]
  int64_t angle_stride = 0;       // a multiple of 16
  float* out = nullptr;           // [rows, E]
  int64_t out_stride = 0;
  int64_t rows = 0;
  int64_t position = 0;      // tokens before the first row
  float* state = nullptr;    // layout->floats, updated
  float* scratch = nullptr;  // layout->scratch_floats()
};

void WindowMix(const WindowArgs& args);

}  // namespace based

#endif  // BASED_KERNELS_CPU_WINDOW_MIX_H_
