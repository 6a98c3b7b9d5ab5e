#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <string>
#include <thread>

#include "kernels/base/status.h"
#include "kernels/cpu/cpu_executable.h"
#include "kernels/program_check.h"

namespace based {
namespace {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int32_t threads) : threads_(threads) {}

  std::string name() const override { return "cpu"; }

  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program& program,
                                                      const CompileOptions& options) override {
    BASED_RETURN_IF_ERROR(CheckProgram(program));
    return cpu::CpuExecutable::Create(program, options, threads_);
  }

 private:
  const int32_t threads_;
};

}  // namespace

std::unique_ptr<Backend> NewCpuBackend(const CpuBackendOptions& options) {
  const auto cores = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  return std::make_unique<CpuBackend>(options.threads > 0 ? options.threads : cores);
}

}  // namespace based
