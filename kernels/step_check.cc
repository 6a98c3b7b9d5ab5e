#include "kernels/step_check.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

absl::Status Wrong(const std::string& what) {
  return absl::InternalError(absl::StrCat("step table: ", what));
}

absl::Status CheckTokens(const StepTable& table, const StepLimits& limits) {
  for (size_t t = 0; t < table.tokens.size(); ++t) {
    const int32_t token = table.tokens[t];
    if (token == kTokenFromPrevious) {
      if (t >= table.sources.size() || table.sources[t] < 0 ||
          table.sources[t] >= limits.previous_samples) {
        return Wrong(absl::StrCat("tokens[", t, "] comes from the previous step, but sources[", t,
                                  "] is not one of its ", limits.previous_samples, " samples"));
      }
    } else if (token < 0 || token >= limits.embed_rows) {
      return Wrong(
          absl::StrCat("tokens[", t, "] is ", token, ", expected 0 to ", limits.embed_rows - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpans(const StepTable& table, const StepLimits& limits) {
  std::vector<bool> used(static_cast<size_t>(limits.slots), false);
  int64_t next_row = 0;
  for (size_t i = 0; i < table.spans.size(); ++i) {
    const Span& span = table.spans[i];
    if (span.slot < 0 || span.slot >= limits.slots) {
      return Wrong(absl::StrCat("spans[", i, "].slot is ", span.slot, " of ", limits.slots));
    }
    if (used[static_cast<size_t>(span.slot)]) {
      return Wrong(absl::StrCat("spans[", i, "].slot ", span.slot, " has an earlier span"));
    }
    used[static_cast<size_t>(span.slot)] = true;
    if (span.row != next_row || span.length < 1 || span.position < 0) {
      return Wrong(absl::StrCat("spans[", i, "] has row ", span.row, ", length ", span.length,
                                " and position ", span.position, ", expected row ", next_row,
                                ", length of at least 1 and position of at least 0"));
    }
    next_row += span.length;
  }
  if (next_row != static_cast<int64_t>(table.tokens.size())) {
    return Wrong(absl::StrCat("spans cover ", next_row, " of ", table.tokens.size(), " rows"));
  }
  return absl::OkStatus();
}

size_t MaskWords(int32_t vocab_size) { return (static_cast<size_t>(vocab_size) + 31) / 32; }

// The mask comes from outside this library. `where` names the rules.
template <typename... Where>
absl::Status CheckMask(const SampleRules& rules, int32_t vocab_size, const Where&... where) {
  if (rules.mask.empty() || rules.mask.size() == MaskWords(vocab_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where..., "mask has ", rules.mask.size(),
                                                 " words, expected ", MaskWords(vocab_size),
                                                 " for ", vocab_size, " ids"));
}

absl::Status CheckRules(const SampleRow& sample, size_t index, const StepLimits& limits) {
  if (sample.late.has_value()) {
    if (limits.late_rules && sample.sample && sample.rules == nullptr) return absl::OkStatus();
    return Wrong(absl::StrCat("samples[", index, "] has late rules",
                              !limits.late_rules ? ", which this backend does not take"
                              : sample.sample    ? " and others"
                                                 : " and no draw"));
  }
  if (sample.rules == nullptr) return absl::OkStatus();
  return CheckMask(*sample.rules, limits.vocab_size, "step table: samples[", index, "].rules->");
}

absl::Status CheckSamples(const StepTable& table, const StepLimits& limits) {
  const int64_t rows = static_cast<int64_t>(table.tokens.size());
  for (size_t i = 0; i < table.samples.size(); ++i) {
    const SampleRow& sample = table.samples[i];
    if (sample.row < 0 || sample.row >= rows) {
      return Wrong(absl::StrCat("samples[", i, "].row is ", sample.row, " of ", rows));
    }
    if (sample.target != kNone && (sample.target < 0 || sample.target >= limits.vocab_size)) {
      return Wrong(absl::StrCat("samples[", i, "].target is ", sample.target, ", expected 0 to ",
                                limits.vocab_size - 1));
    }
    if (sample.logprob && !sample.sample && sample.target == kNone) {
      return Wrong(absl::StrCat("samples[", i, "] asks for a logprob of no id"));
    }
    if (sample.top_logprobs < 0) {
      return Wrong(absl::StrCat("samples[", i, "].top_logprobs is ", sample.top_logprobs));
    }
    BASED_RETURN_IF_ERROR(CheckRules(sample, i, limits));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStepTable(const StepTable& table, const StepLimits& limits) {
  const auto above = [](size_t count, int32_t most) { return count > static_cast<size_t>(most); };
  if (table.tokens.empty() || above(table.tokens.size(), limits.options.max_rows)) {
    return Wrong(
        absl::StrCat(table.tokens.size(), " rows, expected 1 to ", limits.options.max_rows));
  }
  if (above(table.spans.size(), limits.options.max_spans)) {
    return Wrong(absl::StrCat(table.spans.size(), " spans, most ", limits.options.max_spans));
  }
  if (above(table.samples.size(), limits.options.max_samples)) {
    return Wrong(absl::StrCat(table.samples.size(), " samples, most ", limits.options.max_samples));
  }
  BASED_RETURN_IF_ERROR(CheckTokens(table, limits));
  BASED_RETURN_IF_ERROR(CheckSpans(table, limits));
  return CheckSamples(table, limits);
}

absl::Status CheckLateRules(const SampleRules& rules, const RuleSizes& most, int32_t vocab_size) {
  const auto above = [](size_t count, int32_t limit) { return count > static_cast<size_t>(limit); };
  if (above(rules.counts.size(), most.counts) || above(rules.biases.size(), most.biases) ||
      above(rules.banned.size(), most.banned) ||
      (!most.mask && !(rules.allowed.empty() && rules.mask.empty()))) {
    return absl::InternalError(absl::StrCat(
        "late rules: ", rules.counts.size(), " counts, ", rules.biases.size(), " biases, ",
        rules.banned.size(), " banned ids; the sample has room for ", most.counts, ", ",
        most.biases, " and ", most.banned, most.mask ? "" : " and no mask"));
  }
  return CheckMask(rules, vocab_size, "late rules: ");
}

}  // namespace based
