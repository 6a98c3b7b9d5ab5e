#include "client/plan_machine.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/command.h"

namespace based {
namespace {

// Limits as NVIDIA's data sheets have them: memory of the product (GB, as the driver reports it a
// little less), bandwidth, dense bf16 without sparsity.
struct Gpu {
  const char* key;
  const char* name;
  double memory_bytes;
  double bytes_per_second;
  double flops_per_second;
};
constexpr std::array<Gpu, 7> kGpus = {{
    {"h100", "NVIDIA H100 80GB HBM3 (SXM)", 85.0e9, 3.35e12, 989e12},
    {"h200", "NVIDIA H200 141GB HBM3e (SXM)", 150.0e9, 4.8e12, 989e12},
    {"b200", "NVIDIA B200 180GB HBM3e", 191.0e9, 8.0e12, 2250e12},
    {"a100", "NVIDIA A100 80GB HBM2e (SXM)", 85.0e9, 2.039e12, 312e12},
    {"a100-40gb", "NVIDIA A100 40GB HBM2 (SXM)", 42.4e9, 1.555e12, 312e12},
    {"l40s", "NVIDIA L40S 48GB GDDR6", 47.7e9, 0.864e12, 362e12},
    {"l4", "NVIDIA L4 24GB GDDR6", 23.6e9, 0.300e12, 121e12},
}};

// What the kernels reached on an NVIDIA H100 80GB HBM3, as shares of the data sheet's 3.35 TB/s and
// 989 TFLOP/s; each figure stands at the head of its file in kernels/cuda, measured there at the
// 1.3B shape.
constexpr PlanShares kH100Shares = {
    .weights = 3.1 / 3.35,        // cuda_bench's ceiling for reads: GEMM reads at it
    .weights_alone = 2.2 / 3.35,  // gemv.cu: over all layers of a step of one row
    .arithmetic = 796.0 / 989.0,  // cuda_bench's ceiling: bf16 GEMM of 8192^3
    .taylor_state = 2.82 / 3.35,  // taylor_decode.cu
    .window_state = 2.99 / 3.35,  // window_decode.cu
    .rows = 2.4 / 3.35,           // conv_mix.cu, 44 MB in 18 us; elementwise.cu, 22 MB in 9.1 us
    .sampling = 2.3 / 3.35,       // sample.cu: 206 MB in 0.09 ms
    .taylor_prefill = 144.0 / 989.0,  // taylor_prefill.cu: 79 GFLOP in 0.55 ms
    .window_prefill = 65.0 / 989.0,   // window_prefill.cu
};
// Left of whole decode steps at 128 and 256 rows (2.69 and 3.61 ms) by the terms above, over their
// 293 kernels: 1.9 and 0.7 us.
constexpr double kKernelSeconds = 1.2e-6;
// README: the engine gave 91.1k of the 94.4k tokens/s that bare steps of 1,024 rows gave.
constexpr double kCudaHostShare = 0.965;
// cuda_backend.h leaves 512 MiB alone; context, modules and graphs take the rest of this.
constexpr double kCudaReservedBytes = 1.1e9;

// Of the cpu backend with two threads of an AVX-512 machine, by build/cpu/tests/cpu_bench on the
// demo model's shape: prefill of 512 tokens reached 75% of the measured multiply-add rate in its
// matrices alone, 78.5% with attention counted; a step of one row, 187 us, leaves the rest for the
// bytes of weights and state and for 78 loops.
constexpr PlanShares kCpuShares = {
    .weights = 0.94,
    .weights_alone = 0.94,
    .arithmetic = 0.785,
    .taylor_state = 0.94,
    .window_state = 0.94,
    .rows = 0.94,
    .sampling = 0.94,
    .taylor_prefill = 0.785,
    .window_prefill = 0.785,
};
constexpr double kLoopSeconds = 0.2e-6;
// serve_bench --engine against cpu_bench in the same minute: 0.93 at one row, 0.90 at 32.
constexpr double kCpuHostShare = 0.92;

}  // namespace

double PlanMachine::BytesPerSecond(double working_set) const {
  if (working_set <= reads.front().working_set) return reads.front().bytes_per_second;
  for (size_t i = 1; i < reads.size(); ++i) {
    const ReadSpeed& low = reads[i - 1];
    const ReadSpeed& high = reads[i];
    if (working_set > high.working_set) continue;
    const double at =
        std::log(working_set / low.working_set) / std::log(high.working_set / low.working_set);
    return low.bytes_per_second + at * (high.bytes_per_second - low.bytes_per_second);
  }
  return reads.back().bytes_per_second;
}

absl::StatusOr<PlanMachine> GpuPreset(const std::string& name) {
  std::string known;
  for (const Gpu& gpu : kGpus) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", gpu.key);
    if (absl::AsciiStrToLower(name) != gpu.key) continue;
    return PlanMachine{.name = gpu.name,
                       .cuda = true,
                       .measured = std::string(gpu.key) == "h100",
                       .memory_bytes = gpu.memory_bytes,
                       .reserved_bytes = kCudaReservedBytes,
                       .reads = {{1, gpu.bytes_per_second}},
                       .flops_per_second = gpu.flops_per_second,
                       .op_seconds = kKernelSeconds,
                       .host_share = kCudaHostShare,
                       .shares = kH100Shares,
                       .limits = {.max_rows = 3072, .max_spans = 1152, .max_samples = 1152}};
  }
  return UsageError(absl::StrCat("--gpu is '", name, "'; expected one of ", known));
}

PlanMachine CpuMachine(const std::string& name, std::vector<ReadSpeed> reads,
                       double flops_per_second, double memory_bytes) {
  return {.name = name,
          .cuda = false,
          .measured = true,
          .memory_bytes = memory_bytes,
          .reads = std::move(reads),
          .flops_per_second = flops_per_second,
          .op_seconds = kLoopSeconds,
          .host_share = kCpuHostShare,
          .shares = kCpuShares,
          .limits = {.max_rows = 512, .max_spans = 256, .max_samples = 256}};
}

}  // namespace based
