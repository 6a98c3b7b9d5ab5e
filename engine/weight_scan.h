// One pass over all weights: finds NaN and Inf, and computes a digest of the bytes. Memory-bound:
// several threads read fixed pieces, and the result does not depend on their number.
#ifndef BASED_ENGINE_WEIGHT_SCAN_H_
#define BASED_ENGINE_WEIGHT_SCAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "kernels/program.h"

namespace based {

// Index of the first NaN or Inf among the `count` elements at `data`, which is aligned to them.
std::optional<int64_t> FindNonFinite(const void* data, DType dtype, int64_t count);

struct WeightScan {
  // Hex of 128 bits (XXH3) over the header and every weight's name, dtype, shape and bytes: a name
  // for a model, no defence against forgery.
  std::string digest;
  // The first NaN or Inf by order of weights; `weight` is -1 when all are finite.
  int64_t weight = -1;
  int64_t element = 0;
  bool nan = false;
};

WeightScan ScanWeights(absl::Span<const WeightView> weights, std::string_view header);

}  // namespace based

#endif  // BASED_ENGINE_WEIGHT_SCAN_H_
