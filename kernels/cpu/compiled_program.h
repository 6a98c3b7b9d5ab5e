// A Program made ready for the CPU: packed weights, workspace, and where each op's state lies in a
// slot. Everything that does not change from step to step.
#ifndef BASED_KERNELS_CPU_COMPILED_PROGRAM_H_
#define BASED_KERNELS_CPU_COMPILED_PROGRAM_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/taylor_mix.h"
#include "kernels/cpu/window_mix.h"
#include "kernels/program.h"

namespace based::cpu {

// Activations of the step, [max_rows, width]; 32 floats beyond the last row are readable.
struct Buffer {
  float* data = nullptr;
  int64_t width = 0;

  float* row(int64_t index) const { return data + index * width; }
};

// Rotary angles of the step's rows, shared by all window ops of one base and head_dim.
struct RopeTable {
  double base = 0;
  int32_t head_dim = 0;
  int64_t stride = 0;                          // head_dim / 2 in whole vectors
  std::vector<uint64_t> turns_per_token = {};  // [head_dim / 2], see rope_phase.h
  float* cosine = nullptr;                     // [max_rows, stride]
  float* sine = nullptr;                       // [max_rows, stride]
};

// `state` is always in floats from the start of a slot.
struct EmbedStep {
  WeightView table;
  Buffer out;
};

struct NormStep {
  const float* weight = nullptr;
  double eps = 0;
  Buffer in;
  Buffer out;
};

struct LinearStep {
  PackedMatrix matrix;
  Epilogue epilogue = Epilogue::kStore;
  Buffer in;
  Buffer out;
};

struct ConvStep {
  const float* taps = nullptr;  // [kernel, channels]
  int64_t channels = 0;
  int64_t kernel = 0;
  int64_t state = 0;
  Buffer in;
  Buffer out;
};

struct TaylorStep {
  TaylorLayout layout{1, 1};
  int64_t heads = 0;
  double eps = 0;
  int64_t state = 0;
  Buffer in;
  Buffer out;
};

struct WindowStep {
  WindowLayout layout{2, 0};
  int64_t heads = 0;
  size_t rope = 0;  // index of CompiledProgram::ropes
  int64_t state = 0;
  Buffer in;
  Buffer out;
};

struct LogitsStep {
  const float* norm_weight = nullptr;  // null: none
  double eps = 0;
  PackedMatrix table;
  int32_t vocab_size = 0;
  Buffer in;
  // Logits are made for this many rows at a time.
  int64_t slab_rows = 0;
  Buffer normed = {};  // [slab_rows, D]
  Buffer logits = {};  // [slab_rows, V]
};

using CompiledOp =
    std::variant<EmbedStep, NormStep, LinearStep, ConvStep, TaylorStep, WindowStep, LogitsStep>;

struct CompiledProgram {
  std::vector<CompiledOp> ops;
  std::vector<RopeTable> ropes;
  int64_t slot_floats = 0;     // of one slot, a multiple of the cache line
  std::string state_layout;    // see ExecutableInfo
  int64_t scratch_floats = 0;  // of one thread, a multiple of the cache line
  int64_t padded_vocab_size = 0;
  Memory weights;
  Memory workspace;
};

// REQUIRES: CheckProgram(program) is OK. RESOURCE_EXHAUSTED when weights or workspace do not fit.
absl::StatusOr<CompiledProgram> CompileProgram(const Program& program,
                                               const CompileOptions& options);

}  // namespace based::cpu

#endif  // BASED_KERNELS_CPU_COMPILED_PROGRAM_H_
