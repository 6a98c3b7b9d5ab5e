#include "engine/draw_rules.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/utf8.h"

namespace based {
namespace {

// Bytes that are looked ahead for, at most.
constexpr size_t kMaxForcedBytes = 512;

}  // namespace

DrawRules::DrawRules(const RuleSpec& spec, absl::Span<const int32_t> prompt)
    : spec_(spec),
      counts_(spec.rules.repetition_penalty != 1 || spec.rules.presence_penalty != 0 ||
              spec.rules.frequency_penalty != 0),
      rules_(spec.rules) {
  if (spec.constraint != nullptr) matcher_.emplace(spec.constraint);
  for (const auto& word : spec.bad_words) longest_word_ = std::max(longest_word_, word.size());
  OnHistory(prompt);
}

void DrawRules::OnHistory(absl::Span<const int32_t> ids) {
  // Presence and frequency have nothing to say about the prompt.
  if (spec_.rules.repetition_penalty == 1) return;
  for (const int32_t id : ids) Count(id, 0);
}

void DrawRules::Count(int32_t token, int32_t output_count) {
  const auto [entry, is_new] = count_index_.emplace(token, rules_.counts.size());
  if (is_new) rules_.counts.push_back({.id = token});
  rules_.counts[entry->second].output_count += output_count;
}

void DrawRules::OnToken(int32_t token) {
  if (counts_) Count(token, 1);
  if (matcher_.has_value()) matcher_->Accept(token);
  if (longest_word_ < 2) return;
  if (tail_.size() == longest_word_ - 1) tail_.erase(tail_.begin());
  tail_.push_back(token);
}

bool DrawRules::OutputEndsWith(absl::Span<const int32_t> ids) const {
  return ids.size() <= tail_.size() &&
         std::equal(ids.begin(), ids.end(), tail_.end() - static_cast<ptrdiff_t>(ids.size()));
}

std::vector<int32_t> DrawRules::Forced() const {
  if (spec_.spelling == nullptr || !matcher_.has_value()) return {};
  std::string text = matcher_->ForcedBytes(kMaxForcedBytes);
  // Of a character that is cut off nothing is spelled.
  if (const size_t at = FindInvalidUtf8(text); at != std::string::npos) text.resize(at);
  if (text.empty()) return {};
  absl::StatusOr<std::vector<int32_t>> ids = spec_.spelling->Encode(text);
  if (!ids.ok()) return {};
  ConstraintMatcher ahead = *matcher_;
  size_t accepted = 0;
  // A special token that the text names is not text.
  while (accepted < ids->size() && ahead.Accept((*ids)[accepted])) ++accepted;
  if (accepted < ids->size() || !ahead.MustEnd()) accepted -= std::min<size_t>(accepted, 1);
  ids->resize(accepted);
  return *std::move(ids);
}

const SampleRules& DrawRules::ForDraw(int64_t draw) {
  rules_.banned = spec_.never;
  if (draw < spec_.min_tokens) {
    rules_.banned.insert(rules_.banned.end(), spec_.endings.begin(), spec_.endings.end());
  }
  if (matcher_.has_value()) rules_.mask = matcher_->Mask();
  for (const auto& word : spec_.bad_words) {
    if (OutputEndsWith(absl::MakeConstSpan(word).first(word.size() - 1))) {
      rules_.banned.push_back(word.back());
    }
  }
  return rules_;
}

RuleSizes DrawRules::MostAfterNext() const {
  const size_t banned = spec_.never.size() + spec_.endings.size() + spec_.bad_words.size();
  return {.counts = static_cast<int32_t>(rules_.counts.size() + (counts_ ? 1 : 0)),
          .biases = static_cast<int32_t>(rules_.biases.size()),
          .banned = static_cast<int32_t>(banned),
          .mask = matcher_.has_value() || !rules_.allowed.empty()};
}

}  // namespace based
