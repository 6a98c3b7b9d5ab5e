// Two GPUs behind the few functions of NVML that server/gpu_metrics.cc calls.
#include <cstdint>

namespace {
unsigned long long energy_millijoules[2] = {7000, 7000};
uintptr_t IndexOf(void* device) { return reinterpret_cast<uintptr_t>(device) - 1; }
}  // namespace

extern "C" {

struct FakeMemory {
  unsigned long long total, free, used;
};
struct FakeUtilization {
  unsigned int gpu, memory;
};

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(uintptr_t{index} + 1);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, FakeMemory* memory) {
  *memory = {4000, 3000, 1000 + IndexOf(device)};
  return 0;
}
int nvmlDeviceGetUtilizationRates(void*, FakeUtilization* utilization) {
  *utilization = {25, 10};
  return 0;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = 350'500;
  return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) {
  *milliwatts = IndexOf(device) == 0 ? 700'000 : 450'000;
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  *millijoules = energy_millijoules[IndexOf(device)];
  energy_millijoules[IndexOf(device)] += 2000;
  return 0;
}

}  // extern "C"
