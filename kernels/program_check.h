// Checks of a Program that hold for every backend: ids, shapes, buffer widths and order of ops.
#ifndef BASED_KERNELS_PROGRAM_CHECK_H_
#define BASED_KERNELS_PROGRAM_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/program.h"

namespace based {

// INVALID_ARGUMENT naming the op (by index and kind) and the weight or buffer that does not fit the
// equations of program.h, or that has neither data nor, where `allow_synthetic`, a rule to make it.
// An OK program's ids are in range, its shapes agree, no op reads a buffer that nothing has
// written, no op writes the buffer it reads, and its last op is the only LogitsOp.
absl::Status CheckProgram(const Program& program, bool allow_synthetic = false);

// Input ids are [0, EmbedRows): the fewest rows of the program's embedding tables.
// REQUIRES: CheckProgram is OK.
int64_t EmbedRows(const Program& program);

// The last op. REQUIRES: CheckProgram is OK.
const LogitsOp& FinalLogits(const Program& program);

}  // namespace based

#endif  // BASED_KERNELS_PROGRAM_CHECK_H_
