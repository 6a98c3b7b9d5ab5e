#include "tests/sim/alone.h"

#include <algorithm>
#include <deque>
#include <memory>

#include "absl/strings/str_cat.h"

namespace based {
namespace {

bool IsScore(const SequenceSpec& spec, uint64_t state, int32_t token,
             const std::vector<TokenLogprob>& scores) {
  if (scores.size() != 1 || scores[0].token_id != token) return false;
  const auto is_right = [&](int32_t id, double logprob) {
    return logprob == SimLogprob(state, id);
  };
  return is_right(token, scores[0].logprob) &&
         static_cast<int32_t>(scores[0].alternatives.size()) == spec.top_logprobs &&
         std::all_of(scores[0].alternatives.begin(), scores[0].alternatives.end(),
                     [&](const TokenScore& other) { return is_right(other.id, other.logprob); });
}

std::vector<int32_t> TextOf(const SequenceSpec& spec, int32_t index) {
  const Continuation& own = (*spec.continuations)[static_cast<size_t>(index)];
  std::vector<int32_t> text = index == 0 ? spec.prompt : TextOf(spec, own.parent);
  if (index > 0) text.resize(static_cast<size_t>(own.shared));
  text.insert(text.end(), own.ids.begin(), own.ids.end());
  return text;
}

}  // namespace

std::string CompareScores(const SequenceSpec& spec, int32_t index,
                          const std::vector<TokenLogprob>& scores) {
  std::vector<int32_t> tokens = spec.prompt;
  int64_t score_from = spec.score_from;
  if (spec.continuations != nullptr) {
    tokens = TextOf(spec, index);
    const Continuation& own = (*spec.continuations)[static_cast<size_t>(index)];
    if (index > 0) score_from = own.shared + own.unscored;
  }
  const auto length = static_cast<int64_t>(tokens.size());
  const int64_t expected = std::max<int64_t>(0, length - score_from);
  if (static_cast<int64_t>(scores.size()) != expected) return "scores are missing";
  uint64_t state = kSimEmptyState;
  for (int64_t i = 0; i < length; ++i) {
    const int32_t token = tokens[static_cast<size_t>(i)];
    if (i >= score_from) {
      const TokenLogprob& score = scores[static_cast<size_t>(i - score_from)];
      if (score.token_id != token || score.logprob != SimLogprob(state, token) ||
          static_cast<int32_t>(score.alternatives.size()) != spec.top_logprobs) {
        return absl::StrCat("the score of prompt token ", i, " is wrong");
      }
    }
    state = SimState(state, token);
  }
  return "";
}

std::string CompareWithAlone(const SimModel& model, const SequenceSpec& spec, int32_t index,
                             const Completion& heard, FinishReason reason) {
  const std::vector<int32_t>& tokens = heard.tokens;
  uint64_t state = kSimEmptyState;
  for (const int32_t token : spec.prompt) state = SimState(state, token);
  SampleParams params = spec.sampling;
  params.seed += static_cast<uint64_t>(index);
  std::unique_ptr<DrawRules> rules;
  if (spec.rules != nullptr) rules = std::make_unique<DrawRules>(*spec.rules, spec.prompt);
  std::deque<int32_t> forced;
  for (size_t i = 0; i < tokens.size(); ++i) {
    params.position = static_cast<int64_t>(spec.prompt.size() + i);
    int32_t token = kNone;
    const bool is_drawn = forced.empty();
    if (is_drawn) {
      const SampleRules* draw_rules =
          rules == nullptr ? nullptr : &rules->ForDraw(static_cast<int64_t>(i));
      token = SimDraw(model, state, params, draw_rules);
    } else {
      token = forced.front();
      forced.pop_front();
    }
    if (token != tokens[i]) return absl::StrCat("token ", i, " differs from running alone");
    const std::vector<TokenLogprob>& logprobs = heard.logprobs[i];
    const bool has_one = is_drawn && spec.logprobs;
    if (has_one ? !IsScore(spec, state, token, logprobs) : !logprobs.empty()) {
      return absl::StrCat("the logprob of token ", i, " is wrong");
    }
    if (rules != nullptr) rules->OnToken(token);
    state = SimState(state, token);
    const bool stop = std::find(spec.stop_token_ids.begin(), spec.stop_token_ids.end(), token) !=
                      spec.stop_token_ids.end();
    const bool complete = rules != nullptr && rules->complete();
    const bool ends = token == spec.eos_token_id || stop || complete ||
                      static_cast<int64_t>(i) + 1 == spec.max_tokens;
    const bool last = i + 1 == tokens.size();
    if (ends != last) {
      return absl::StrCat("token ", i, last ? " ended it early" : " should have ended it");
    }
    if (!last && rules != nullptr && forced.empty()) {
      for (const int32_t next : rules->Forced(static_cast<int64_t>(i) + 1)) forced.push_back(next);
    }
    if (!last) continue;
    const FinishReason expected = token == spec.eos_token_id ? FinishReason::kEndOfText
                                  : stop                     ? FinishReason::kStopToken
                                  : complete                 ? FinishReason::kConstraint
                                                             : FinishReason::kMaxTokens;
    if (expected != reason) return "wrong finish reason";
  }
  return "";
}

}  // namespace based
