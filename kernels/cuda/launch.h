// Every kernel's launcher, with its parameters. Launchers enqueue on `stream`, never wait and
// return the launch's error. Shapes were checked at Compile; kernels trust them.
//
// Letters as in kernels/program.h. "act" is the activation type of the executable, bf16 or fp32.
// All state of one sequence is one contiguous slot; offsets are bytes within it.
#ifndef BASED_KERNELS_CUDA_LAUNCH_H_
#define BASED_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace based::cuda {

enum class Type : uint8_t { kF32, kBF16, kF16 };

// A span as the device sees it. slot < 0 marks padding: nothing is read, computed or written.
struct DeviceSpan {
  int32_t slot;
  int32_t row;
  int32_t length;
  int32_t reserved;
  int64_t position;
  int64_t fold_position;  // S and z are folded as of a step at this position; see taylor_state.cuh
};

struct DeviceCount {
  int32_t id;
  int32_t output_count;
};

struct DeviceBias {
  int32_t id;
  float bias;
};

// SampleRules (kernels/sampling.h) of one draw. Ids outside the vocabulary are ignored.
struct DeviceRules {
  float repetition_penalty;
  float presence_penalty;
  float frequency_penalty;
  float typical_p;
  DeviceCount* counts;    // [count_size]; the kernel may overwrite output_count
  DeviceBias* biases;     // [bias_size]; the kernel may overwrite bias
  const int32_t* banned;  // [banned_size]
  const uint32_t* mask;   // a bit for each id, set: may be drawn; null: all
  int32_t count_size;
  int32_t bias_size;
  int32_t banned_size;
  int32_t state;  // of late rules: see LateState
};

// How a late sample's rules stand. The host moves them on from kAwaited, once, after it wrote all
// that they point to.
enum LateState : int32_t {
  kAwaited = 0,
  kGiven = 1,
  kVoid = 2,  // nobody wants the draw; the rest of the rules is not set
};

// A TokenScore.
struct DeviceScore {
  double logprob;
  int32_t id;
  int32_t reserved;
};

// What `rules` and `top` point to may be pinned host memory.
struct DeviceSample {
  int64_t position;
  uint64_t seed;
  float temperature;
  float top_p;
  float min_p;
  int32_t top_k;
  int32_t row;        // < 0: padding
  int32_t target;     // id whose logprob is asked for, or -1
  int32_t top_count;  // most likely ids asked for; at most kMostTopScores and vocab_size
  uint8_t sample;
  uint8_t logprob;
  uint8_t late;  // `rules` are there once their state says so
  uint8_t reserved;
  const DeviceRules* rules;  // null: none
  DeviceScore* top;          // [top_count]
};

constexpr int32_t kMostTopScores = 1024;

// SampleResult::finite of a late sample that waited in vain.
constexpr int32_t kRulesNeverCame = -1;

struct SampleResult {
  double logprob;
  int32_t id;
  int32_t finite;  // 1, 0 or kRulesNeverCame
};

struct SlotPool {
  std::byte* base = nullptr;
  int64_t slot_bytes = 0;
};

struct EmbedParams {
  const int32_t* tokens;         // [rows] id, or -1: previous[sources[row]].id
  const int32_t* sources;        // [rows]
  const SampleResult* previous;  // results of the step before
  const void* table;             // [vocab, width] act
  void* out;                     // [rows, width] act or fp32
  int32_t rows, width, vocab;
  Type act, out_type;
};
cudaError_t Embed(const EmbedParams& p, cudaStream_t stream);

// With `samples`, row i of the output is row samples[i].row of the input. Without `weight` the rows
// are only gathered and converted.
struct NormParams {
  const void* in;               // [., width]
  const float* weight;          // [width] or null
  const DeviceSample* samples;  // [rows] or null
  void* out;                    // [rows, width]
  int32_t rows, width;
  float eps;
  Type in_type, out_type;
};
cudaError_t Norm(const NormParams& p, cudaStream_t stream);

struct ConvertParams {
  const void* in;
  void* out;
  int64_t count;
  Type in_type, out_type;
};
cudaError_t Convert(const ConvertParams& p, cudaStream_t stream);

// out[t, j] = in[t, j] * silu(in[t, half + j])
struct SwiGluParams {
  const void* in;  // [rows, 2 * half] act
  void* out;       // [rows, half] act
  int32_t rows, half;
  Type act;
};
cudaError_t SwiGlu(const SwiGluParams& p, cudaStream_t stream);

// y_t = W x_t for few rows: reads W once at memory speed. With `norm_weight`, x is the fp32
// residual and is normalised on the way in.
struct GemvParams {
  const void* weight;        // [n, k] bf16
  const void* in;            // [rows, k] bf16, or fp32 with norm_weight
  const float* norm_weight;  // [k] or null
  const float* bias;         // [n] or null
  void* out;                 // [rows, n] of out_type, [rows, n / 2] with swiglu
  int32_t rows, n, k;
  float eps;
  Type out_type;    // fp32 with accumulate, bf16 with swiglu
  bool accumulate;  // out += y, fp32
  bool swiglu;      // out[j] = y[j] * silu(y[n/2 + j])
};
// False: this shape has no kernel, use the GEMM.
bool GemvSupports(const GemvParams& p);
cudaError_t Gemv(const GemvParams& p, cudaStream_t stream);

struct ConvMixParams {
  const void* in;     // [rows, 2 * channels] act
  const float* taps;  // [kernel, channels]
  void* out;          // [rows, channels] act
  const DeviceSpan* spans;
  const int32_t* row_span;  // [rows]
  SlotPool pool;
  int64_t ring_offset;  // [ring_rows, channels] act; row of token u is u mod ring_rows
  int32_t rows, span_count, channels, kernel, ring_rows;
  bool decode_only;  // every span has length 1
  Type act;
};
cudaError_t ConvMix(const ConvMixParams& p, cudaStream_t stream);

struct TaylorParams {
  const void* in;  // [rows, H (2F + E)] act
  void* out;       // [rows, H E] act
  const DeviceSpan* spans;
  SlotPool pool;
  int64_t s_offset;       // [H][s_stride] fp32, [P, E] used
  int64_t z_offset;       // [H][z_stride] fp32, [P] used
  int64_t ring_k_offset;  // [H][ring_rows][F] act
  int64_t ring_v_offset;  // [H][ring_rows][E] act
  float* scratch_z;       // [span_count][H][z_stride], prefill only
  int32_t span_count, heads, feature_dim, head_dim;
  int32_t s_stride, z_stride;
  int32_t fold_phase;  // l * H: head h folds at positions t with (t + fold_phase + h) mod fold == 0
  int32_t fold, fold_lag, ring_rows;
  float eps;
  Type act;
};
// Spans of any length, one token after the other; any shape.
cudaError_t TaylorGeneric(const TaylorParams& p, cudaStream_t stream);
// Spans of length 1; F of 8 or 16, E of 32, 64, 96, 112 or 128.
bool TaylorDecodeSupports(const TaylorParams& p);
cudaError_t TaylorDecode(const TaylorParams& p, cudaStream_t stream);
// Spans of any length on tensor cores; bf16, the same F and E.
bool TaylorPrefillSupports(const TaylorParams& p);
cudaError_t TaylorPrefill(const TaylorParams& p, cudaStream_t stream);

// cos and sin of every rotary pair at every row's position, exact at any position (rope_phase.h).
struct RopeTableParams {
  const DeviceSpan* spans;
  const int32_t* row_span;  // [rows]
  const uint64_t* turns;    // [half]
  float2* out;              // [rows, half]: cos, sin
  int32_t rows, half;
};
cudaError_t RopeTable(const RopeTableParams& p, cudaStream_t stream);

struct WindowParams {
  const void* in;  // [rows, 3 H E] act
  void* out;       // [rows, H E] act
  const DeviceSpan* spans;
  const float2* rope;  // [rows, E / 2]
  SlotPool pool;
  int64_t ring_k_offset;  // [H][ring_rows][E] act, rotated; row of token u is u mod ring_rows
  int64_t ring_v_offset;  // [H][ring_rows][E] act
  int32_t span_count, heads, head_dim, window_left, ring_rows;
  float scale;  // 1 / sqrt(E)
  Type act;
};
cudaError_t WindowGeneric(const WindowParams& p, cudaStream_t stream);
// Bytes of shared memory that WindowGeneric needs; Compile refuses more than the device has.
int64_t WindowGenericSharedBytes(int32_t window_left, int32_t head_dim);
bool WindowDecodeSupports(const WindowParams& p);
cudaError_t WindowDecode(const WindowParams& p, cudaStream_t stream);
bool WindowPrefillSupports(const WindowParams& p);
cudaError_t WindowPrefill(const WindowParams& p, int32_t max_length, cudaStream_t stream);

// How long a late sample waits for its rules: far beyond what a host that lives takes, so that
// nothing hangs when it does not. Blocks that wait hold back those behind them.
constexpr int64_t kLateLimitNs = int64_t{20} * 1'000'000'000;

// Rows with rules are changed in place: their logits are spoilt.
struct SampleParamsDevice {
  float* logits;                // [count, stride]
  const DeviceSample* samples;  // [count]
  SampleResult* results;        // [count]
  int32_t count, stride, vocab_size;
  int64_t late_limit_ns = kLateLimitNs;
};
cudaError_t Sample(const SampleParamsDevice& p, cudaStream_t stream);

// in [rows, cols] of in_type -> out of out_type at the same place, or transposed [cols, rows].
struct PackParams {
  const void* in;
  void* out;
  int64_t rows, cols;
  Type in_type, out_type;
  bool transpose;
};
cudaError_t Pack(const PackParams& p, cudaStream_t stream);

// Element i = mean + stddev * SyntheticNormal(seed, first + i); see kernels/program.h.
struct FillParams {
  void* out;
  int64_t count;
  uint64_t seed;
  float mean, stddev;
  Type out_type;
};
cudaError_t Fill(const FillParams& p, cudaStream_t stream);

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_LAUNCH_H_
