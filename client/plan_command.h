// `based plan`: what a model needs and gives on a machine, before there is one.
#ifndef BASED_CLIENT_PLAN_COMMAND_H_
#define BASED_CLIENT_PLAN_COMMAND_H_

#include <cstdint>
#include <functional>

#include "client/command.h"
#include "client/plan_machine.h"

namespace based {

// Measures this machine's CPU; main knows how.
struct MeasuredCpu {
  double flops_per_second = 0;
  double bytes_per_second = 0;
};
using CpuMeasurement = std::function<MeasuredCpu(int32_t threads, int64_t working_set)>;

Command PlanCommand(CpuMeasurement measure);

}  // namespace based

#endif  // BASED_CLIENT_PLAN_COMMAND_H_
