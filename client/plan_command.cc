#include "client/plan_command.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/common_flags.h"
#include "client/plan_model.h"
#include "client/plan_report.h"
#include "engine/engine.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

ABSL_FLAG(
    std::string, gpu, "h100",
    "plan: h100, h200, b200, a100, a100-40gb, l40s or l4, with the limits of its data sheet.");
ABSL_FLAG(
    std::string, machine, "",
    "plan: a CPU instead of a GPU: measured (this machine, within a second), or its limits as "
    "READ_BYTES_PER_SECOND,FLOPS_PER_SECOND, e.g. 190e9,230e9.");
ABSL_FLAG(double, memory, 0,
          "plan: bytes for weights, workspace and slots; 0: the GPU's, on a CPU what the daemon "
          "takes by default.");
ABSL_FLAG(int32_t, feature_dim, 0, "plan: feature_dim of the model; 0: as it is.");
ABSL_FLAG(double, streams, 0, "plan: sequences that decode; 0: as many as there are slots.");
ABSL_FLAG(double, prompt_share, 0, "plan: share of all tokens that are prompt, from 0 to 0.99.");
ABSL_FLAG(double, context, 2048, "plan: tokens of a sequence, for the KV cache beside.");
ABSL_DECLARE_FLAG(int32_t, window);
ABSL_DECLARE_FLAG(std::string, html);

namespace based {
namespace {

// Working sets that reads are measured at: the weights, and they with so many slots.
constexpr double kMeasuredSlots[] = {0, 2, 8, 32, 64};
constexpr double kMostPromptShare = 0.99;
constexpr double kMostMemory = 1e15;  // bytes
constexpr double kMostContext = 1e9;  // tokens

absl::StatusOr<PlanMachine> GivenCpu(const std::string& limits) {
  const std::vector<std::string> parts = absl::StrSplit(limits, ',');
  double bytes = 0, flops = 0;
  if (parts.size() != 2 || !absl::SimpleAtod(parts[0], &bytes) ||
      !absl::SimpleAtod(parts[1], &flops) || !(bytes > 0) || !(flops > 0)) {
    return UsageError(absl::StrCat("--machine is '", limits,
                                   "'; expected measured, or READ_BYTES_PER_SECOND,"
                                   "FLOPS_PER_SECOND"));
  }
  return CpuMachine("a CPU of given limits", {{1, bytes}}, flops, 0);
}

PlanMachine ThisCpu(const Program& program, int32_t threads, const CpuMeasurement& measure) {
  const auto slot = static_cast<double>(PlanSlotBytes(program, false).total());
  const double weights = PlanWeightBytes(program);
  std::vector<ReadSpeed> reads;
  double flops = 0;
  for (const double slots : kMeasuredSlots) {
    const double working_set = weights + slots * slot;
    const MeasuredCpu speed = measure(threads, static_cast<int64_t>(working_set));
    flops = std::max(flops, speed.flops_per_second);
    reads.push_back({working_set, speed.bytes_per_second});
  }
  return CpuMachine("this machine's CPU, measured", std::move(reads), flops, 0);
}

// What the daemon would take.
double DefaultCpuMemory(const Program& program, const PlanMachine& machine) {
  ExecutableInfo info;
  info.backend = "cpu";
  info.weight_bytes = static_cast<int64_t>(PlanWeightBytes(program));
  info.workspace_bytes = static_cast<int64_t>(PlanWorkspaceBytes(program, false, machine.limits));
  info.slot_bytes = PlanSlotBytes(program, false).total();
  return static_cast<double>(DefaultMemoryBudget(info));
}

absl::StatusOr<PlanMachine> MachineFromFlags(const CommandLine& line, const Program& program,
                                             const CpuMeasurement& measure) {
  const std::string cpu = absl::GetFlag(FLAGS_machine);
  if (!cpu.empty() && line.Has("gpu")) {
    return UsageError("--gpu and --machine are both given; expected one of them");
  }
  BASED_ASSIGN_OR_RETURN(const int32_t threads, ThreadsFromFlags());
  PlanMachine machine;
  if (cpu == "measured") {
    machine = ThisCpu(program, threads, measure);
  } else if (!cpu.empty()) {
    BASED_ASSIGN_OR_RETURN(machine, GivenCpu(cpu));
  } else {
    BASED_ASSIGN_OR_RETURN(machine, GpuPreset(absl::GetFlag(FLAGS_gpu)));
  }
  const double memory = absl::GetFlag(FLAGS_memory);
  if (!(memory >= 0) || memory > kMostMemory) {
    return UsageError(
        absl::StrCat("--memory is ", memory, "; expected 0 (the default) to ", kMostMemory));
  }
  if (!machine.cuda) machine.memory_bytes = DefaultCpuMemory(program, machine);
  if (memory > 0) machine.memory_bytes = memory;
  return machine;
}

absl::StatusOr<PlanLoad> LoadFromFlags() {
  const PlanLoad load{.streams = absl::GetFlag(FLAGS_streams),
                      .prompt_share = absl::GetFlag(FLAGS_prompt_share)};
  if (!(load.streams >= 0) || load.streams > 1e6) {
    return UsageError(absl::StrCat("--streams is ", load.streams, "; expected 0 to 1000000"));
  }
  if (!(load.prompt_share >= 0) || load.prompt_share > kMostPromptShare) {
    return UsageError(absl::StrCat("--prompt_share is ", load.prompt_share, "; expected 0 to ",
                                   kMostPromptShare));
  }
  const double context = absl::GetFlag(FLAGS_context);
  if (!(context >= 1) || context > kMostContext) {
    return UsageError(absl::StrCat("--context is ", context, "; expected 1 to ", kMostContext));
  }
  return load;
}

absl::Status WritePage(const std::string& path, const std::string& page) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC));
  return WriteAll(file.get(), page, path);
}

absl::Status Plan(const CommandLine& line, const CpuMeasurement& measure) {
  if (!line.positional.empty()) return UsageError("plan takes flags only");
  const std::string name = absl::GetFlag(FLAGS_model);
  if (name.empty()) {
    return UsageError("--model is not given; expected a checkpoint's directory or synthetic:NAME");
  }
  PlanDials dials;
  if (line.Has("window")) dials.window_size = absl::GetFlag(FLAGS_window);
  if (line.Has("feature_dim")) dials.feature_dim = absl::GetFlag(FLAGS_feature_dim);
  BASED_ASSIGN_OR_RETURN(const PlanLoad load, LoadFromFlags());
  BASED_ASSIGN_OR_RETURN(PlanModel model, LoadPlanModel(name, dials));
  BASED_ASSIGN_OR_RETURN(PlanMachine machine, MachineFromFlags(line, model.program, measure));
  const PlanReport plan =
      MakePlan(std::move(model), std::move(machine), load, absl::GetFlag(FLAGS_context));
  std::fputs(
      absl::GetFlag(FLAGS_json) ? (PlanJson(plan).dump(1) + "\n").c_str() : PlanText(plan).c_str(),
      stdout);
  if (const std::string path = absl::GetFlag(FLAGS_html); !path.empty()) {
    return WritePage(path, PlanPage(plan));
  }
  return absl::OkStatus();
}

}  // namespace

Command PlanCommand(CpuMeasurement measure) {
  return {.name = "plan",
          .summary = "Predicts slots, tokens per second and latency of a model on a machine.",
          .examples =
              "  based plan --model synthetic:based-1b --gpu h100 --streams 1024\n"
              "  based plan --model synthetic:based-1b --gpu l40s --window 128 --feature_dim 16 "
              "--prompt_share 0.5 --html plan.html\n"
              "  based plan --model models/demo --machine measured --streams 32 --json\n",
          .flags = {{"Model", {"model", "window", "feature_dim"}},
                    {"Machine", {"gpu", "machine", "memory", "threads"}},
                    {"Load", {"streams", "prompt_share", "context"}},
                    {"Report", {"json", "html"}}},
          .run = [measure](const CommandLine& line) { return Plan(line, measure); }};
}

}  // namespace based
