#include "engine/draw_rules.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <utility>

#include "engine/utf8.h"

namespace based {
namespace {

// Bytes that are looked ahead for, at most.
constexpr size_t kMaxForcedBytes = 512;

// Fields that take ids away, a bit each, in the order in which messages name them.
enum Taker : uint8_t {
  kAllowed = 1,
  kBadWords = 2,
  kConstraint = 4,
  kMinTokens = 8,
  kIgnoreEos = 16,
  kAllTakers = 31,
};

// Fewest of the takers that for each of these sets hold one of it.
uint32_t FewestOf(const std::array<bool, kAllTakers + 1>& sets) {
  uint32_t fewest = kAllTakers;
  for (uint32_t takers = 1; takers < kAllTakers; ++takers) {
    bool takes_all = true;
    for (uint32_t set = 1; set <= kAllTakers; ++set) {
      takes_all = takes_all && (!sets[set] || (takers & set) != 0);
    }
    if (takes_all && std::popcount(takers) < std::popcount(fewest)) fewest = takers;
  }
  return fewest;
}

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

bool DrawRules::Bans(absl::Span<const int32_t> word) const {
  const absl::Span<const int32_t> ids = word.first(word.size() - 1);
  return ids.size() <= tail_.size() &&
         std::equal(ids.begin(), ids.end(), tail_.end() - static_cast<ptrdiff_t>(ids.size()));
}

std::vector<int32_t> DrawRules::Forced(int64_t draw) const {
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
  // What ends a completion is no token of it before min_tokens.
  const auto early = std::min<int64_t>(accepted, std::max<int64_t>(0, spec_.min_tokens - draw));
  const auto ending = std::find_first_of(ids->begin(), ids->begin() + static_cast<ptrdiff_t>(early),
                                         spec_.endings.begin(), spec_.endings.end());
  if (ending != ids->begin() + static_cast<ptrdiff_t>(early)) {
    accepted = static_cast<size_t>(ending - ids->begin());
  }
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
    if (Bans(word)) rules_.banned.push_back(word.back());
  }
  return rules_;
}

std::vector<absl::string_view> DrawRules::FieldsThatLeaveNone(int64_t draw) {
  const SampleRules& rules = ForDraw(draw);
  const auto vocab_size = static_cast<size_t>(spec_.vocab_size);
  const bool by_sets = !rules.allowed.empty() || !rules.mask.empty();
  if (!by_sets && rules.banned.size() < vocab_size) return {};
  // Those that take away each id.
  std::vector<uint8_t> takers(vocab_size, rules.allowed.empty() ? 0 : kAllowed);
  for (const int32_t id : rules.allowed) takers[static_cast<size_t>(id)] = 0;
  const auto take = [&takers](Taker taker, int32_t id) {
    takers[static_cast<size_t>(id)] |= taker;
  };
  for (const auto& word : spec_.bad_words) {
    if (Bans(word)) take(kBadWords, word.back());
  }
  for (size_t id = 0; id < vocab_size && !rules.mask.empty(); ++id) {
    if ((rules.mask[id / 32] >> id % 32 & 1) == 0) takers[id] |= kConstraint;
  }
  for (const int32_t id : spec_.endings) {
    if (draw < spec_.min_tokens) take(kMinTokens, id);
  }
  for (const int32_t id : spec_.never) take(kIgnoreEos, id);

  std::array<bool, kAllTakers + 1> sets{};
  for (const uint8_t set : takers) sets[set] = true;
  if (sets[0]) return {};
  const uint32_t fewest = FewestOf(sets);
  std::vector<absl::string_view> fields;
  for (const auto& [taker, field] :
       {std::pair<Taker, absl::string_view>(kAllowed, "sampling.allowed_token_ids"),
        {kBadWords, "sampling.bad_words"},
        {kConstraint, spec_.constraint_field},
        {kMinTokens, "stop.min_tokens"},
        {kIgnoreEos, "stop.ignore_eos"}}) {
    if ((fewest & taker) != 0) fields.push_back(field);
  }
  return fields;
}

RuleSizes DrawRules::MostAfterNext() const {
  const size_t banned = spec_.never.size() + spec_.endings.size() + spec_.bad_words.size();
  return {.counts = static_cast<int32_t>(rules_.counts.size() + (counts_ ? 1 : 0)),
          .biases = static_cast<int32_t>(rules_.biases.size()),
          .banned = static_cast<int32_t>(banned),
          .mask = matcher_.has_value() || !rules_.allowed.empty()};
}

}  // namespace based
