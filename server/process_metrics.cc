#include "server/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "server/process_memory.h"

namespace based {
namespace {

prometheus::Gauge& NewGauge(prometheus::Registry& registry, const std::string& name,
                            const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

// Linux tells the number as the directory's size since 6.2; counting thousands takes milliseconds.
double OpenDescriptors() {
  struct stat status = {};
  if (::stat("/proc/self/fd", &status) == 0 && status.st_size > 0) {
    return static_cast<double>(status.st_size);
  }
  DIR* const directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  int count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return std::max(count - 3, 0);  // ".", ".." and the directory itself
}

}  // namespace

ProcessMetrics::ProcessMetrics(prometheus::Registry& registry)
    : resident_bytes_(NewGauge(registry, "based_process_resident_memory_bytes",
                               "Resident memory of the daemon")),
      open_fds_(NewGauge(registry, "based_process_open_fds", "Open file descriptors")),
      max_fds_(NewGauge(registry, "based_process_max_fds", "Most file descriptors allowed")),
      cpu_seconds_(prometheus::BuildCounter()
                       .Name("based_process_cpu_seconds_total")
                       .Help("Processor time of all threads, user and system")
                       .Register(registry)
                       .Add({})) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  NewGauge(registry, "based_process_start_time_seconds", "Start of the daemon, seconds since 1970")
      .Set(std::chrono::duration<double>(now).count());
}

void ProcessMetrics::Read() {
  resident_bytes_.Set(static_cast<double>(ResidentBytes()));
  open_fds_.Set(OpenDescriptors());
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) max_fds_.Set(static_cast<double>(limit.rlim_cur));
  MutexLock lock(mutex_);
  rusage usage = {};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return;
  const double spent = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  cpu_seconds_.Increment(std::max(0.0, spent - cpu_seconds_.Value()));
}

}  // namespace based
