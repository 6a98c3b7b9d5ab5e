// The model as data: what a backend compiles. The engine builds one Program from a checkpoint's
// configuration; a backend is free to fuse, repack and capture, as long as every value it hands
// back agrees with the equations below, which stand here once and nowhere else.
//
// Letters used in every comment of this tree:
//   T rows (tokens) of the step     D d_model          H heads            E head_dim (of V)
//   F feature_dim (of q and k)      W keys to the left C conv channels    V padded vocabulary
//
// Activations are row-major [T, width] buffers numbered by BufferId; a backend chooses their type
// (fp64 reference, fp32 CPU, bf16 with fp32 residual CUDA). x_t is row t of a buffer.
#ifndef BASED_KERNELS_PROGRAM_H_
#define BASED_KERNELS_PROGRAM_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace based {

enum class DType : uint8_t { kF32, kF16, kBF16 };

// One weight matrix in host memory, row-major [rows, cols]; a vector has rows == 1.
// `data` must outlive the Executable: a backend may keep reading it in place (it may be a mapped
// file) or pack a copy of its own.
struct WeightView {
  std::string name;  // the tensor's name, for messages
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  // Synthetic weights, for trying speed and capacity without a checkpoint: with data == nullptr and
  // stddev > 0 a backend that can (cuda) makes the values itself, value i being
  //   mean + stddev * (sum of the four 16-bit parts of bits - 131070) / 37837.2
  //   bits = SplitMix64(SplitMix64(seed) + i)
  // rounded to the type it keeps weights in; about normal. Other backends refuse such a weight.
  uint64_t synthetic_seed = 0;
  float synthetic_mean = 0.0f;
  float synthetic_stddev = 0.0f;
};

using WeightId = int32_t;
using BufferId = int32_t;
inline constexpr int32_t kNone = -1;

// out_t = table[token_t].                                    table [V, width(out)]
struct EmbedOp {
  WeightId table = kNone;
  BufferId out = kNone;
};

// out_t = x_t * (mean(x_t^2) + eps)^(-1/2) * weight          RMSNorm; weight [1, D]
struct NormOp {
  BufferId in = kNone;
  WeightId weight = kNone;
  double eps = 1e-5;
  BufferId out = kNone;
};

enum class Epilogue : uint8_t {
  kStore,  // out_t = y_t                                      width(out) = N
  kAdd,    // out_t += y_t                                     width(out) = N
  kSwiGlu  // out_t[j] = y_t[j] * silu(y_t[N/2 + j])           width(out) = N/2; value half first
};

// y_t = W x_t + b with W the row-wise stack of `weights`, each [n_i, width(in)], N = sum n_i;
// b [1, N] or none. silu(u) = u / (1 + exp(-u)).
struct LinearOp {
  BufferId in = kNone;
  std::vector<WeightId> weights;
  WeightId bias = kNone;
  Epilogue epilogue = Epilogue::kStore;
  BufferId out = kNone;
};

// Gated short convolution (BaseConv). in_t = [a_t | g_t], each C wide; taps [C, K], oldest first:
//   c_t[j] = sum_{i<K} taps[j, i] * a_{t-K+1+i}[j]     a before the sequence's start is 0
//   out_t[j] = silu(c_t[j]) * g_t[j]
// State of a slot: the last K-1 rows of a.
struct ConvMixOp {
  BufferId in = kNone;
  WeightId taps = kNone;
  int32_t channels = 0;
  int32_t kernel = 0;
  BufferId out = kNone;
};

// Taylor linear attention. in_t = [q_t | k_t | v_t], widths HF, HF, HE, head-major. Per head:
//   s(t, u) = q_t . k_u / sqrt(F)
//   p(t, u) = 1 + s + s^2 / 2 = phi(q_t) . phi(k_u)
//   out_t   = sum_{u<=t} p(t, u) v_u / (sum_{u<=t} p(t, u) + eps)
// phi packed (153 features for F = 16), with x^ = x / F^(1/4):
//   phi(x) = [1 ; x^_i ; x^_i^2 / sqrt(2) ; x^_i x^_j for i < j]
// State of a slot: S = sum phi(k_u) v_u^T [P, E] and z = sum phi(k_u) [P] per head, of which any
// number of the latest tokens may be kept unfolded as (k, v) rows ("deferred fold"). z[0] is the
// token count: backends take it from the position, never from a float counter.
// Released checkpoints have eps = 1e-12; the denominator is at least (t + 1) / 2.
struct TaylorMixOp {
  BufferId in = kNone;
  int32_t heads = 0;
  int32_t feature_dim = 0;
  int32_t head_dim = 0;
  double eps = 1e-12;
  BufferId out = kNone;
};

// Sliding-window softmax attention with rotary embedding. in_t = [q_t | k_t | v_t], each HE wide,
// head-major. rot(x, t) rotates the pairs (i, i + E/2) by t * base^(-2i/E), t the absolute
// position:
//   x'_i = x_i cos - x_{i+E/2} sin ;  x'_{i+E/2} = x_{i+E/2} cos + x_i sin
//   out_t = softmax_u(rot(q_t, t) . rot(k_u, u) / sqrt(E)) v_u   over max(0, t - W) <= u <= t
// W = window_size / 2 (integer division): W + 1 keys are seen.
// Angles must be exact at any position: see rope_phase.h.
// State of a slot: the last W (rotated k, v) rows, as a ring.
struct WindowMixOp {
  BufferId in = kNone;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t window_left = 0;  // W
  double rope_base = 10000.0;
  BufferId out = kNone;
};

// For every SampleRow of the step: logits = table . norm(x_row), then sampling (sampling.h).
// table [V, D]; norm_weight [1, D] or kNone for none. Ids at or above vocab_size are computed and
// handed back when raw logits are asked for, and are never sampled nor counted in a softmax.
struct LogitsOp {
  BufferId in = kNone;
  WeightId norm_weight = kNone;
  double eps = 1e-5;
  WeightId table = kNone;
  int32_t vocab_size = 0;
};

using Op = std::variant<EmbedOp, NormOp, LinearOp, ConvMixOp, TaylorMixOp, WindowMixOp, LogitsOp>;

struct BufferSpec {
  int32_t width = 0;
  // A running sum over layers: kept in at least fp32 on every backend.
  bool residual = false;
};

// Ops run in order. The last op is the only LogitsOp.
struct Program {
  std::vector<BufferSpec> buffers;
  std::vector<WeightView> weights;
  std::vector<Op> ops;
  // Tokens by which every mixer's state can be stepped back (DESIGN "spare tokens"): a backend
  // whose pipeline_depth is above 1 needs at least pipeline_depth - 1 to snapshot a stopped
  // sequence.
  int32_t spare_tokens = 0;
};

}  // namespace based

#endif  // BASED_KERNELS_PROGRAM_H_
