#include "kernels/reference/reference_backend.h"

#include <memory>
#include <string>
#include <utility>

#include "kernels/base/status.h"
#include "kernels/program_check.h"
#include "kernels/reference/reference_executable.h"

namespace based {
namespace {

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference"; }

  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program& program,
                                                      const CompileOptions& options) override {
    BASED_RETURN_IF_ERROR(CheckProgram(program));
    return std::make_unique<reference::ReferenceExecutable>(program, options);
  }
};

}  // namespace

std::unique_ptr<Backend> NewReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace based
