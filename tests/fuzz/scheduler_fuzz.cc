// The scheduler: the input's bytes choose arrivals, cancels, deadlines and sizes of a simulated
// day, and every rule that tests/sim checks must hold.
#include <cstdint>
#include <cstdio>

#include "absl/types/span.h"
#include "kernels/base/check.h"
#include "tests/sim/simulation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const based::SimulationResult result = based::SimulateChoices(absl::MakeConstSpan(data, size));
  if (!result.error.empty()) std::fprintf(stderr, "%s\n", result.error.c_str());
  BASED_CHECK(result.error.empty());
  return 0;
}
