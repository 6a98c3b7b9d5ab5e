// Machines that capacity is planned for: their limits from data sheets or measured, and the share
// of each limit that the kernels reach.
#ifndef BASED_CLIENT_PLAN_MACHINE_H_
#define BASED_CLIENT_PLAN_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace based {

// Shares of a machine's limits that kernels reach, in (0, 1]. Memory shares are of the read
// bandwidth, arithmetic shares of the multiply-add rate.
struct PlanShares {
  double weights = 1;         // reading weights for many rows (GEMM)
  double weights_alone = 1;   // for a handful of rows (GEMV), where launches hide behind it
  double arithmetic = 1;      // multiply-adds of weights and rows
  double taylor_state = 1;    // a decode step over S, z and the unfolded tokens
  double window_state = 1;    // a decode step over the ring of keys and values
  double rows = 1;            // norms, activations, convolutions: row by row
  double sampling = 1;        // over logits
  double taylor_prefill = 1;  // arithmetic of linear attention over many tokens
  double window_prefill = 1;  // arithmetic of windowed attention over many tokens
};

// Bytes a second when `working_set` bytes are read again and again.
struct ReadSpeed {
  double working_set = 0;
  double bytes_per_second = 0;
};

struct PlanMachine {
  std::string name;
  bool cuda = true;           // state layout and step of the cuda backend; else of the cpu backend
  bool measured = false;      // the shares were measured on this kind of machine
  double memory_bytes = 0;    // of the device; for a CPU, what the daemon may take
  double reserved_bytes = 0;  // of it, what is neither weights, workspace nor slots
  std::vector<ReadSpeed> reads;  // at least one, ascending by working set
  double flops_per_second = 0;   // dense multiply-adds, two operations each: bf16, on a CPU fp32
  double op_seconds = 0;         // that an op takes at least, as one kernel in a graph or one loop
  double host_share = 1;         // of the steps' throughput that the engine hands on
  PlanShares shares;
  CompileOptions limits;  // the backend's defaults

  // Interpolated by the logarithm of the working set, constant beyond the ends.
  double BytesPerSecond(double working_set) const;
};

// "h100", "h200", "a100", "a100-40gb", "l40s", "l4", "b200"; whatever case. INVALID_ARGUMENT names
// them all.
absl::StatusOr<PlanMachine> GpuPreset(const std::string& name);

// A CPU with given or measured limits; the shares are those measured for the cpu backend.
PlanMachine CpuMachine(const std::string& name, std::vector<ReadSpeed> reads,
                       double flops_per_second, double memory_bytes);

}  // namespace based

#endif  // BASED_CLIENT_PLAN_MACHINE_H_
