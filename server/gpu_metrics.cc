#include "server/gpu_metrics.h"

#include <dlfcn.h>

#include <algorithm>

namespace based {
namespace {

// The part of NVML's interface that is used; it is the same in every driver.
using NvmlDevice = void*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlUtilization {
  unsigned int gpu, memory;  // percent
};
constexpr int kSuccess = 0;
constexpr unsigned kMostGpus = 64;

}  // namespace

struct GpuMetrics::Library {
  ~Library() {
    if (shutdown != nullptr) shutdown();
    ::dlclose(handle);
  }

  template <typename Function>
  bool Find(const char* name, Function*& function) const {
    function = reinterpret_cast<Function*>(::dlsym(handle, name));
    return function != nullptr;
  }

  // False when a function is missing or the driver does not answer.
  bool Open() {
    if (!Find("nvmlInit_v2", init) || !Find("nvmlDeviceGetCount_v2", count) ||
        !Find("nvmlDeviceGetHandleByIndex_v2", device) ||
        !Find("nvmlDeviceGetMemoryInfo", memory) ||
        !Find("nvmlDeviceGetUtilizationRates", utilization) ||
        !Find("nvmlDeviceGetPowerUsage", power) ||
        !Find("nvmlDeviceGetEnforcedPowerLimit", power_limit) ||
        !Find("nvmlDeviceGetTotalEnergyConsumption", energy) || init() != kSuccess) {
      return false;
    }
    Find("nvmlShutdown", shutdown);
    return true;
  }

  void* handle = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*device)(unsigned, NvmlDevice*) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*power)(NvmlDevice, unsigned*) = nullptr;             // milliwatts
  int (*power_limit)(NvmlDevice, unsigned*) = nullptr;       // milliwatts
  int (*energy)(NvmlDevice, unsigned long long*) = nullptr;  // millijoules since the driver's load
};

struct GpuMetrics::Gpu {
  NvmlDevice device;
  unsigned long long energy_at_start;
  GpuSeries series;
};

GpuSeries AddGpuSeries(prometheus::Registry& registry, const std::string& index) {
  const auto gauge = [&](const char* name, const char* help) {
    return &prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  };
  auto* memory = gauge("based_gpu_memory_bytes", "Memory of a GPU, of all processes");
  auto* busy = gauge("based_gpu_busy_ratio", "Share of the last moment in which a kernel ran");
  auto* power = gauge("based_gpu_power_watts", "Power that a GPU draws");
  auto* power_limit = gauge("based_gpu_power_limit_watts", "Power that a GPU may draw");
  auto& energy = prometheus::BuildCounter()
                     .Name("based_gpu_energy_joules_total")
                     .Help("Energy that a GPU has taken since the daemon's start")
                     .Register(registry);
  return {.used = &memory->Add({{"gpu", index}, {"state", "used"}}),
          .total = &memory->Add({{"gpu", index}, {"state", "total"}}),
          .busy = &busy->Add({{"gpu", index}}),
          .power = &power->Add({{"gpu", index}}),
          .power_limit = &power_limit->Add({{"gpu", index}}),
          .energy = &energy.Add({{"gpu", index}})};
}

GpuMetrics::GpuMetrics(prometheus::Registry& registry, const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return;
  library_ = std::make_unique<Library>();
  library_->handle = handle;
  unsigned count = 0;
  if (!library_->Open() || library_->count(&count) != kSuccess) {
    library_ = nullptr;
    return;
  }
  MutexLock lock(mutex_);
  for (unsigned i = 0; i < std::min(count, kMostGpus); ++i) {
    Gpu gpu = {};
    if (library_->device(i, &gpu.device) != kSuccess) continue;
    gpu.series = AddGpuSeries(registry, std::to_string(i));
    library_->energy(gpu.device, &gpu.energy_at_start);
    gpus_.push_back(gpu);
  }
}

GpuMetrics::~GpuMetrics() = default;

void GpuMetrics::Read() {
  if (library_ == nullptr) return;
  MutexLock lock(mutex_);
  for (Gpu& gpu : gpus_) {
    NvmlMemory memory = {};
    if (library_->memory(gpu.device, &memory) == kSuccess) {
      gpu.series.used->Set(static_cast<double>(memory.used));
      gpu.series.total->Set(static_cast<double>(memory.total));
    }
    NvmlUtilization utilization = {};
    if (library_->utilization(gpu.device, &utilization) == kSuccess) {
      gpu.series.busy->Set(utilization.gpu / 100.0);
    }
    unsigned milliwatts = 0;
    if (library_->power(gpu.device, &milliwatts) == kSuccess)
      gpu.series.power->Set(milliwatts / 1e3);
    if (library_->power_limit(gpu.device, &milliwatts) == kSuccess)
      gpu.series.power_limit->Set(milliwatts / 1e3);
    unsigned long long millijoules = 0;
    if (library_->energy(gpu.device, &millijoules) == kSuccess &&
        millijoules >= gpu.energy_at_start) {
      const double joules = static_cast<double>(millijoules - gpu.energy_at_start) / 1e3;
      gpu.series.energy->Increment(std::max(0.0, joules - gpu.series.energy->Value()));
    }
  }
}

}  // namespace based
