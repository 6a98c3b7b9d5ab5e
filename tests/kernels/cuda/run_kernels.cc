// Launches every kernel of our own once or twice on random data and checks that none fails. For
// compute-sanitizer's racecheck, which stops with an internal error ("failed to handle a hardware
// exception") in any process that runs cuBLASLt's Hopper kernels: there is no GEMM here. Results
// are the other tests' business.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"

namespace based::cuda {
namespace {

constexpr int32_t kSlots = 4;
constexpr int32_t kHeads = 2;
constexpr int32_t kE = 112;
constexpr int32_t kWindow = 128;
constexpr int32_t kRows = 240;
constexpr int64_t kSlotBytes = 512 * 1024;

void Check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what.c_str(), cudaGetErrorString(error));
  std::exit(1);
}

template <typename T>
T* Upload(const std::vector<T>& values) {
  void* data = nullptr;
  Check(cudaMalloc(&data, values.size() * sizeof(T)), "allocate");
  Check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "copy");
  return static_cast<T*>(data);
}

void* Random(int64_t count, Type type, float stddev) {
  static uint64_t seed = 0;
  void* data = nullptr;
  Check(cudaMalloc(&data, static_cast<size_t>(count) * 4), "allocate");
  Check(Fill({data, count, ++seed, 0.0f, stddev, type}, nullptr), "Fill");
  return data;
}

SlotPool NewPool() {
  void* data = nullptr;
  Check(cudaMalloc(&data, kSlots * kSlotBytes), "allocate");
  Check(cudaMemset(data, 0, kSlots * kSlotBytes), "clear");
  return {static_cast<std::byte*>(data), kSlotBytes};
}

// Four decodes at position 200, of which some heads fold; or two prefills that follow.
struct Spans {
  std::vector<DeviceSpan> host;
  const DeviceSpan* device;
  const int32_t* row_span;
  int32_t count;
  int32_t rows;
};

Spans MakeSpans(const std::vector<int32_t>& lengths, int64_t position) {
  Spans spans;
  std::vector<int32_t> row_span;
  for (const int32_t length : lengths) {
    const int32_t slot = static_cast<int32_t>(spans.host.size());
    spans.host.push_back(
        {slot, static_cast<int32_t>(row_span.size()), length, 0, position, position - 1});
    row_span.insert(row_span.end(), static_cast<size_t>(length), slot);
  }
  spans.device = Upload(spans.host);
  spans.row_span = Upload(row_span);
  spans.count = static_cast<int32_t>(lengths.size());
  spans.rows = static_cast<int32_t>(row_span.size());
  return spans;
}

void RunTaylor(const Spans& decode, const Spans& prefill, Type act, int32_t feature_dim) {
  TaylorParams p = {};
  p.in = Random(int64_t{kRows} * kHeads * (2 * feature_dim + kE), act, 1);
  p.out = Random(int64_t{kRows} * kHeads * kE, act, 1);
  p.pool = NewPool();
  p.s_stride = 17152;
  p.z_stride = 160;
  p.z_offset = 140 * 1024;
  p.ring_k_offset = 144 * 1024;
  p.ring_v_offset = 148 * 1024;
  p.scratch_z = static_cast<float*>(Random(kSlots * kHeads * 160, Type::kF32, 1));
  p.heads = kHeads;
  p.feature_dim = feature_dim;
  p.head_dim = kE;
  p.fold_phase = 7;  // head 1 folds at position 200
  p.fold = 8;
  p.ring_rows = 9;
  p.eps = 1e-12f;
  p.act = act;
  p.spans = decode.device;
  p.span_count = decode.count;
  Check(TaylorDecode(p, nullptr), "TaylorDecode");
  p.spans = prefill.device;
  p.span_count = prefill.count;
  if (TaylorPrefillSupports(p)) Check(TaylorPrefill(p, nullptr), "TaylorPrefill");
  Check(TaylorGeneric(p, nullptr), "TaylorGeneric");
}

void RunWindow(const Spans& decode, const Spans& prefill) {
  const int32_t half = kE / 2;
  std::vector<uint64_t> turns;
  for (int32_t i = 0; i < half; ++i) turns.push_back(0x28be60db9391054aull >> (i / 4));
  WindowParams p = {};
  p.in = Random(int64_t{kRows} * 3 * kHeads * kE, Type::kBF16, 1);
  p.out = Random(int64_t{kRows} * kHeads * kE, Type::kBF16, 1);
  auto* rope = static_cast<float2*>(Random(int64_t{kRows} * kE, Type::kF32, 1));
  p.rope = rope;
  p.pool = NewPool();
  p.ring_v_offset = 64 * 1024;
  p.heads = kHeads;
  p.head_dim = kE;
  p.window_left = kWindow;
  p.ring_rows = kWindow + 1;
  p.scale = 0.0945f;
  p.act = Type::kBF16;
  for (const Spans* spans : {&decode, &prefill}) {
    Check(RopeTable({spans->device, spans->row_span, Upload(turns), rope, spans->rows, half},
                    nullptr),
          "RopeTable");
    p.spans = spans->device;
    p.span_count = spans->count;
    Check(WindowGeneric(p, nullptr), "WindowGeneric");
    Check(spans == &decode ? WindowDecode(p, nullptr) : WindowPrefill(p, 200, nullptr), "Window");
  }
}

void RunRowKernels(const Spans& decode, const Spans& prefill) {
  const int32_t width = 1792;
  const void* residual = Random(int64_t{kRows} * width, Type::kF32, 1);
  const auto* norm = static_cast<const float*>(Random(width, Type::kF32, 1));
  void* out = Random(int64_t{kRows} * 2 * width, Type::kBF16, 1);
  Check(Norm({residual, norm, nullptr, out, kRows, width, 1e-5f, Type::kF32, Type::kBF16}, nullptr),
        "Norm");
  Check(Norm({residual, norm, nullptr, out, kRows, 63, 1e-5f, Type::kF32, Type::kBF16}, nullptr),
        "Norm of odd width");
  const void* weight = Random(int64_t{2} * width * width, Type::kBF16, 0.02f);
  for (const int32_t rows : {1, 2, 4}) {
    GemvParams gemv = {weight,    residual, norm,  nullptr,     out,   rows,
                       2 * width, width,    1e-5f, Type::kBF16, false, true};
    Check(Gemv(gemv, nullptr), "Gemv with norm and SwiGLU");
  }
  ConvMixParams conv = {};
  conv.in = Random(int64_t{kRows} * 128, Type::kBF16, 1);
  conv.taps = static_cast<const float*>(Random(3 * 64, Type::kF32, 1));
  conv.out = out;
  conv.pool = NewPool();
  conv.channels = 64;
  conv.kernel = 3;
  conv.ring_rows = 3;
  conv.act = Type::kBF16;
  for (const Spans* spans : {&decode, &prefill}) {
    conv.spans = spans->device;
    conv.row_span = spans->row_span;
    conv.rows = spans->rows;
    conv.span_count = spans->count;
    conv.decode_only = spans == &decode;
    Check(ConvMix(conv, nullptr), "ConvMix");
  }
}

// Greedy, plain, with selections; the last one with every rule and alternatives as well.
void RunSample() {
  const int32_t vocab = 5000;
  const DeviceRules rules = {.repetition_penalty = 1.3f,
                             .presence_penalty = 0.4f,
                             .frequency_penalty = 0.1f,
                             .typical_p = 0.8f,
                             .counts = Upload(std::vector<DeviceCount>{{3, 1}, {4999, 2}, {77, 0}}),
                             .biases = Upload(std::vector<DeviceBias>{{9, 2.0f}, {77, -1.0f}}),
                             .banned = Upload(std::vector<int32_t>{1, 2, 4000}),
                             .mask = Upload(std::vector<uint32_t>((vocab + 31) / 32, 0x7FF3FF5F)),
                             .count_size = 3,
                             .bias_size = 2,
                             .banned_size = 3,
                             .state = kGiven};
  std::vector<DeviceSample> samples(5);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i] = {.position = 3,
                  .seed = i,
                  .temperature = i == 0 ? 0.0f : 0.9f,
                  .top_p = i >= 2 ? 0.7f : 1.0f,
                  .min_p = 0.01f,
                  .top_k = i >= 3 ? 40 : 0,
                  .row = static_cast<int32_t>(i),
                  .target = -1,
                  .top_count = i == 4 ? 20 : 0,
                  .sample = 1,
                  .logprob = 1,
                  .late = 0,
                  .reserved = {},
                  .rules = i == 4 ? Upload(std::vector<DeviceRules>{rules}) : nullptr,
                  .top = Upload(std::vector<DeviceScore>(20))};
  }
  auto* logits = static_cast<float*>(Random(int64_t{5} * vocab, Type::kF32, 3));
  Check(Sample({logits, Upload(samples), Upload(std::vector<SampleResult>(5)), 5, vocab, vocab},
               nullptr),
        "Sample");
}

int Main() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::puts("SKIPPED: no device");
    return 0;
  }
  const Spans decode = MakeSpans({1, 1, 1, 1}, 200);
  const Spans prefill = MakeSpans({200, 37}, 201);
  for (const int32_t feature_dim : {8, 16}) {
    RunTaylor(decode, prefill, Type::kBF16, feature_dim);
    RunTaylor(decode, prefill, Type::kF32, feature_dim);
  }
  RunWindow(decode, prefill);
  RunRowKernels(decode, prefill);
  RunSample();
  std::puts("PASSED: every kernel ran");
  return 0;
}

}  // namespace
}  // namespace based::cuda

int main() { return based::cuda::Main(); }
