#include "client/logits_runner.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace based {

absl::StatusOr<LogitsRunner> LogitsRunner::Create(Executable& executable) {
  BASED_RETURN_IF_ERROR(executable.CreateSlots(1));
  return LogitsRunner(executable);
}

absl::Status LogitsRunner::Reset() {
  position_ = 0;
  const int32_t slot = 0;
  return executable_->ClearSlots(absl::MakeConstSpan(&slot, 1));
}

void LogitsRunner::Prepare(absl::Span<const int32_t> tokens) {
  const auto length = static_cast<int32_t>(tokens.size());
  table_.tokens.assign(tokens.begin(), tokens.end());
  table_.sources.assign(tokens.size(), 0);
  table_.spans = {{.slot = 0, .row = 0, .length = length, .position = position_}};
  table_.samples.clear();
}

absl::Status LogitsRunner::Run() {
  BASED_RETURN_IF_ERROR(executable_->Launch(table_));
  BASED_RETURN_IF_ERROR(executable_->Collect(output_));
  for (size_t i = 0; i < output_.finite.size(); ++i) {
    if (output_.finite[i] == 0) {
      return absl::InternalError(absl::StrCat("logits after position ",
                                              position_ + table_.samples[i].row,
                                              " hold NaN or infinity"));
    }
  }
  position_ += static_cast<int64_t>(table_.tokens.size());
  return absl::OkStatus();
}

absl::Status LogitsRunner::Logits(absl::Span<const int32_t> tokens, std::vector<double>& logits) {
  Prepare(tokens);
  for (size_t row = 0; row < tokens.size(); ++row) {
    table_.samples.push_back(
        {.row = static_cast<int32_t>(row), .params = {}, .sample = false, .logits = true});
  }
  BASED_RETURN_IF_ERROR(Run());
  logits.insert(logits.end(), output_.logits.begin(), output_.logits.end());
  return absl::OkStatus();
}

absl::StatusOr<int32_t> LogitsRunner::Greedy(absl::Span<const int32_t> tokens) {
  Prepare(tokens);
  table_.samples.push_back({.row = static_cast<int32_t>(tokens.size()) - 1,
                            .params = {.temperature = 0.0f},
                            .sample = true});
  BASED_RETURN_IF_ERROR(Run());
  return output_.ids.at(0);
}

absl::StatusOr<double> LogitsRunner::LogProbability(absl::Span<const int32_t> tokens,
                                                    absl::Span<const int32_t> targets) {
  BASED_CHECK(tokens.size() == targets.size());
  Prepare(tokens);
  for (size_t row = 0; row < tokens.size(); ++row) {
    table_.samples.push_back({.row = static_cast<int32_t>(row),
                              .params = {},
                              .sample = false,
                              .logprob = true,
                              .target = targets[row]});
  }
  BASED_RETURN_IF_ERROR(Run());
  return std::accumulate(output_.logprobs.begin(), output_.logprobs.end(), 0.0);
}

}  // namespace based
