// Golden files: sequences, the logits that a trusted implementation gave for them, and its greedy
// continuations. And the comparison with ours.
#ifndef BASED_CLIENT_GOLDEN_H_
#define BASED_CLIENT_GOLDEN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace based {

// Tensors of a golden file; N sequences of T tokens, V padded vocabulary, G greedy steps.
struct Golden {
  int64_t sequences = 0;              // N
  int64_t length = 0;                 // T
  int64_t vocab = 0;                  // V
  int64_t greedy_steps = 0;           // G
  int32_t prompt_length = 0;          // tokens before the first greedy step; at most T
  std::vector<int32_t> input_ids;     // [N, T]
  std::vector<float> logits;          // [N, T, V] after each position
  std::vector<int32_t> greedy_ids;    // [N, G]
  std::vector<float> greedy_margin;   // [N, G] best logit less the second

  absl::Span<const int32_t> Inputs(int64_t n) const {
    return absl::MakeConstSpan(input_ids).subspan(n * length, length);
  }
  absl::Span<const float> Logits(int64_t n) const {
    return absl::MakeConstSpan(logits).subspan(n * length * vocab, length * vocab);
  }
  absl::Span<const int32_t> GreedyIds(int64_t n) const {
    return absl::MakeConstSpan(greedy_ids).subspan(n * greedy_steps, greedy_steps);
  }
};

// INVALID_ARGUMENT or NOT_FOUND naming the file, the tensor and what is wrong with it.
absl::StatusOr<Golden> ReadGolden(const std::string& path);

// The larger of two errors; NaN is worse than any number.
double WorseError(double a, double b);

// Sums over compared logits.
struct LogitsError {
  double squared_difference = 0;
  double squared_golden = 0;
  double max_abs = 0;

  void Add(absl::Span<const double> logits, absl::Span<const float> golden);
  void Add(const LogitsError& other);
  // ||logits - golden||_2 / ||golden||_2. NaN logits give NaN, which is within no tolerance.
  double Relative() const;
};

}  // namespace based

#endif  // BASED_CLIENT_GOLDEN_H_
