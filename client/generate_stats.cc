#include "client/generate_stats.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace based {

void GenerateStats::Add(const DoneEvent& done) {
  const int64_t first = done.timings.queue_us + done.timings.prefill_us;
  first_us_ = reasons_.empty() ? first : std::min(first_us_, first);
  last_us_ = std::max(last_us_, first + done.timings.decode_us);
  prompt_tokens_ = done.usage.prompt_tokens;
  generated_tokens_ += done.usage.generated_tokens;
  reasons_[done.index] =
      absl::AsciiStrToLower(absl::StripPrefix(done.finish_reason, "FINISH_REASON_"));
}

std::string GenerateStats::Line(double total_s) const {
  const double decode_s = 1e-6 * static_cast<double>(last_us_ - first_us_);
  const std::string reasons = absl::StrJoin(
      reasons_, ",", [](std::string* out, const auto& entry) { *out += entry.second; });
  return absl::StrFormat(
      "prompt_tokens=%d generated_tokens=%d finish_reason=%s first_token_s=%.3f total_s=%.3f "
      "tokens_per_s=%.1f",
      prompt_tokens_, generated_tokens_, reasons, 1e-6 * static_cast<double>(first_us_), total_s,
      decode_s > 0 ? static_cast<double>(generated_tokens_ - 1) / decode_s : 0.0);
}

}  // namespace based
