// Series about the GPUs of the machine, from the driver's management library (NVML) where there is
// one; without it there are none. Thread-safe.
//
// The library comes with the driver and is looked for at run time: a build without CUDA and a
// machine without a GPU need nothing. GPUs are numbered as NVML does (by PCI address), which
// CUDA_VISIBLE_DEVICES does not change.
#ifndef BASED_SERVER_GPU_METRICS_H_
#define BASED_SERVER_GPU_METRICS_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace based {

// The series of one GPU.
struct GpuSeries {
  prometheus::Gauge* used;
  prometheus::Gauge* total;
  prometheus::Gauge* busy;
  prometheus::Gauge* power;
  prometheus::Gauge* power_limit;
  prometheus::Counter* energy;
};
GpuSeries AddGpuSeries(prometheus::Registry& registry, const std::string& index);

class GpuMetrics {
 public:
  // `registry` must outlive this object. `library` is a file for dlopen.
  explicit GpuMetrics(prometheus::Registry& registry,
                      const std::string& library = "libnvidia-ml.so.1");
  ~GpuMetrics();

  // Brings the series to this moment. A figure that a GPU does not give stays as it was.
  void Read();

 private:
  struct Library;
  struct Gpu;

  std::unique_ptr<Library> library_;  // null: none on this machine
  Mutex mutex_;                       // of calls into the library
  std::vector<Gpu> gpus_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_GPU_METRICS_H_
