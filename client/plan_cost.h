// What a BASED model costs on a machine: bytes of a slot and of a step, operations, and from them
// seconds. Pure arithmetic over the Program that backends compile, so shapes are the engine's own.
//
// A step is a sum of terms, one for each kind of op, each
//   seconds = ops * op_seconds + bytes / (bandwidth * share) + flops / (arithmetic * share)
// with the machine's shares (plan_machine.h): memory and arithmetic are added, not overlapped,
// since one kernel follows another and a GEMM of few rows hides little of either in the other. The
// roofline beside it (Williams et al. 2009) is max(all bytes / bandwidth, all flops / arithmetic)
// at the machine's full limits: a bound, not a prediction.
//
// Letters as in kernels/program.h; P = 1 + F + F (F + 1) / 2 features of the packed Taylor map.
#ifndef BASED_CLIENT_PLAN_COST_H_
#define BASED_CLIENT_PLAN_COST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/plan_machine.h"
#include "kernels/backend.h"

namespace based {

// Bytes of one sequence's state, by mixer.
struct SlotBytes {
  int64_t taylor = 0;
  int64_t window = 0;
  int64_t conv = 0;
  int64_t total() const { return taylor + window + conv; }
};

// As kernels/cuda/compiled_program.cc lays a slot out: S and z in fp32, the rings of unfolded
// tokens, of the window and of the convolution in the type of activations, each array rounded up to
// 256 bytes. As kernels/cpu/taylor_mix.h and window_mix.h do on a CPU: fp32, rows of 16 floats. A
// test compares with the backend.
SlotBytes PlanSlotBytes(const Program& program, bool cuda);

// Matrices in their own type (on cuda fp16 as bf16), vectors in fp32.
double PlanWeightBytes(const Program& program);

// Activations of a step of `limits` rows, and logits of at most 1,024 rows in fp32, on a CPU 64.
double PlanWorkspaceBytes(const Program& program, bool cuda, const CompileOptions& limits);

// What a step works on.
struct StepRows {
  double decodes = 0;  // sequences that feed one token
  double prefill = 0;  // rows of prompts
};

struct PlanTerm {
  std::string name;
  double ops = 0;
  double bytes = 0;
  double flops = 0;
  double seconds = 0;
};

struct StepPrediction {
  std::vector<PlanTerm> terms;
  double seconds = 0;
  double roofline_seconds = 0;  // with the machine's full limits
};

StepPrediction PredictStep(const Program& program, const PlanMachine& machine, StepRows rows);

// A steady load of `streams` sequences of which `prompt_share` of all tokens are prompt.
struct PlanLoad {
  double streams = 1;
  double prompt_share = 0;  // [0, 1)
};

struct LoadPrediction {
  StepRows rows;                        // of a step
  double step_seconds = 0;              // also the inter-token latency of a sequence in every step
  double itl_seconds = 0;               // the mean, where sequences take turns
  double tokens_per_second = 0;         // generated, through the engine
  double prompt_tokens_per_second = 0;  // fed beside them
  double roofline_tokens_per_second = 0;
};

// Streams beyond a step's limits take turns. With prompts, decodes give way until both fit.
LoadPrediction PredictLoad(const Program& program, const PlanMachine& machine, PlanLoad load);

// Tokens a second when prompts alone are fed in full steps.
double PredictPrefill(const Program& program, const PlanMachine& machine);

// A KV-cache transformer of as many layers and the same width: multi-head attention, keys and
// values in bf16, the same weights; what it takes for `context` tokens a sequence.
struct KvEquivalent {
  double bytes_per_token = 0;    // 2 (k and v) * layers * D * 2 bytes
  double tokens_per_slot = 0;    // tokens whose cache is as large as one slot
  double sequences = 0;          // that fit where `slots` slots do
  double tokens_per_second = 0;  // decoding as many sequences as asked for, or as fit
  double at_sequences = 0;
};
KvEquivalent PredictKv(const Program& program, const PlanMachine& machine, double slots,
                       double streams, double context);

struct CapacityPlan {
  SlotBytes slot;
  double weight_bytes = 0;
  double workspace_bytes = 0;
  int64_t slots = 0;  // 0: the model does not fit
};
CapacityPlan PlanCapacity(const Program& program, const PlanMachine& machine);

}  // namespace based

#endif  // BASED_CLIENT_PLAN_COST_H_
