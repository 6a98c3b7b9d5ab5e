#include "kernels/cuda/sample_staging.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "kernels/step_check.h"

namespace based::cuda {
namespace {

// What requests may ask for (engine/request.h); more grows the memory.
constexpr int64_t kMostRequestedScores = 20;

static_assert(sizeof(DeviceCount) == sizeof(TokenCount) &&
              offsetof(DeviceCount, output_count) == offsetof(TokenCount, output_count));
static_assert(sizeof(DeviceBias) == sizeof(TokenBias) &&
              offsetof(DeviceBias, bias) == offsetof(TokenBias, bias));

template <typename T>
int64_t Bytes(const T& items) {
  return static_cast<int64_t>(items.size() * sizeof(items[0]));
}

int64_t Words(int32_t vocab_size) { return (vocab_size + 31) / 32; }

bool HasMask(const SampleRules& rules) { return !rules.allowed.empty() || !rules.mask.empty(); }

// Of the rules that it has or may have; null: it has none.
std::optional<RuleSizes> SizesOf(const SampleRow& sample) {
  if (!sample.sample || sample.rules == nullptr) return sample.late;
  const SampleRules& rules = *sample.rules;
  return RuleSizes{.counts = static_cast<int32_t>(rules.counts.size()),
                   .biases = static_cast<int32_t>(rules.biases.size()),
                   .banned = static_cast<int32_t>(rules.banned.size()),
                   .mask = HasMask(rules)};
}

// What was written before is there for whoever takes the state with an acquire load.
void SetState(DeviceRules& rules, LateState state) {
  std::atomic_ref<int32_t>(rules.state).store(state, std::memory_order_release);
}

// Copies a list to `at` and moves `at` past it. Returns where it is.
template <typename To, typename From>
To* Append(const std::vector<From>& items, std::byte*& at) {
  To* copy = reinterpret_cast<To*>(at);
  if (!items.empty()) std::memcpy(copy, items.data(), items.size() * sizeof(From));
  at += Bytes(items);
  return copy;
}

absl::Status Reserve(int64_t bytes, absl::string_view what, PinnedBuffer& buffer) {
  if (bytes <= buffer.bytes()) return absl::OkStatus();
  BASED_ASSIGN_OR_RETURN(buffer, PinnedBuffer::Create(std::max(bytes, 2 * buffer.bytes()), what));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SampleStaging> SampleStaging::Create(int32_t max_samples, int32_t vocab_size) {
  SampleStaging staging;
  staging.vocab_size_ = vocab_size;
  const int64_t rules = static_cast<int64_t>(sizeof(DeviceRules)) + 4 * Words(vocab_size);
  BASED_RETURN_IF_ERROR(Reserve(max_samples * rules, "sampling rules", staging.rules_));
  const int64_t scores = kMostRequestedScores * static_cast<int64_t>(sizeof(DeviceScore));
  BASED_RETURN_IF_ERROR(Reserve(max_samples * scores, "alternatives", staging.top_));
  return staging;
}

int64_t SampleStaging::RuleBytes(const RuleSizes& sizes) const {
  const size_t lists = static_cast<size_t>(sizes.counts) * sizeof(DeviceCount) +
                       static_cast<size_t>(sizes.biases) * sizeof(DeviceBias) +
                       static_cast<size_t>(sizes.banned) * sizeof(int32_t);
  const auto bytes = static_cast<int64_t>(sizeof(DeviceRules) + lists);
  return (bytes + (sizes.mask ? 4 * Words(vocab_size_) : 0) + 15) / 16 * 16;
}

absl::Status SampleStaging::CheckTop(const std::vector<SampleRow>& samples) {
  top_count_ = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const int32_t count = std::min(samples[i].top_logprobs, vocab_size_);
    if (count > kMostTopScores) {
      return absl::InvalidArgumentError(absl::StrCat("step table: samples[", i,
                                                     "].top_logprobs is ", count,
                                                     ", the cuda backend has ", kMostTopScores));
    }
    top_count_ += count;
  }
  return absl::OkStatus();
}

absl::Status SampleStaging::Stage(const std::vector<SampleRow>& samples, DeviceSample* device) {
  late_.clear();
  masks_.clear();
  BASED_RETURN_IF_ERROR(CheckTop(samples));
  int64_t bytes = 0;
  for (const SampleRow& sample : samples) {
    if (const auto sizes = SizesOf(sample); sizes.has_value()) bytes += RuleBytes(*sizes);
  }
  BASED_RETURN_IF_ERROR(Reserve(bytes, "sampling rules", rules_));
  BASED_RETURN_IF_ERROR(
      Reserve(top_count_ * static_cast<int64_t>(sizeof(DeviceScore)), "alternatives", top_));
  std::byte* next_rules = rules_.as<std::byte>();
  DeviceScore* next_top = top_.as<DeviceScore>();
  for (size_t i = 0; i < samples.size(); ++i) {
    device[i].top_count = std::min(samples[i].top_logprobs, vocab_size_);
    device[i].top = next_top;
    next_top += device[i].top_count;
    if (samples[i].late.has_value()) {
      device[i].late = 1;
      device[i].rules = MakeRoom(*samples[i].late, next_rules);
    } else if (samples[i].sample && samples[i].rules != nullptr) {
      device[i].rules = Pack(*samples[i].rules, next_rules);
    }
  }
  return absl::OkStatus();
}

DeviceRules* SampleStaging::MakeRoom(const RuleSizes& most, std::byte*& at) {
  auto* rules = reinterpret_cast<DeviceRules*>(at);
  at += RuleBytes(most);
  SetState(*rules, kAwaited);
  late_.push_back({rules, most});
  return rules;
}

absl::Status SampleStaging::Supply(absl::Span<const SampleRules* const> rules) {
  absl::Status status;
  if (rules.size() != late_.size()) {
    status = absl::InternalError(absl::StrCat("late rules: those of ", rules.size(), " samples, ",
                                              late_.size(), " wait for them"));
  }
  // Another mask may lie where one of Stage's lay.
  masks_.clear();
  for (size_t i = 0; i < late_.size(); ++i) {
    const auto& [room, most] = late_[i];
    const SampleRules* given = status.ok() ? rules[i] : nullptr;
    if (given != nullptr) status = CheckLateRules(*given, most, vocab_size_);
    if (given == nullptr || !status.ok()) {
      SetState(*room, kVoid);
      continue;
    }
    auto* at = reinterpret_cast<std::byte*>(room);
    SetState(*Pack(*given, at), kGiven);
  }
  late_.clear();
  return status;
}

void SampleStaging::VoidLate() {
  for (const Late& late : late_) SetState(*late.rules, kVoid);
  late_.clear();
}

// Moves `at` past what was packed, at most RuleBytes. Leaves the state alone, which the device may
// be reading.
DeviceRules* SampleStaging::Pack(const SampleRules& rules, std::byte*& at) {
  std::byte* const begin = at;
  at += sizeof(DeviceRules);
  DeviceRules packed = {.repetition_penalty = rules.repetition_penalty,
                        .presence_penalty = rules.presence_penalty,
                        .frequency_penalty = rules.frequency_penalty,
                        .typical_p = rules.typical_p,
                        .counts = Append<DeviceCount>(rules.counts, at),
                        .biases = Append<DeviceBias>(rules.biases, at),
                        .banned = Append<int32_t>(rules.banned, at),
                        .mask = nullptr,
                        .count_size = static_cast<int32_t>(rules.counts.size()),
                        .bias_size = static_cast<int32_t>(rules.biases.size()),
                        .banned_size = static_cast<int32_t>(rules.banned.size()),
                        .state = kGiven};
  if (HasMask(rules)) packed.mask = PackMask(rules, at);
  std::memcpy(begin, &packed, offsetof(DeviceRules, state));
  at = begin + (at - begin + 15) / 16 * 16;
  return reinterpret_cast<DeviceRules*>(begin);
}

// The ids that are allowed and in the mask.
const uint32_t* SampleStaging::PackMask(const SampleRules& rules, std::byte*& at) {
  const int64_t words = Words(vocab_size_);
  auto* mask = reinterpret_cast<uint32_t*>(at);
  if (rules.allowed.empty()) {
    const auto [known, is_new] = masks_.try_emplace(rules.mask.data(), mask);
    if (!is_new) return known->second;
    std::copy_n(rules.mask.begin(), words, mask);
    at += 4 * words;
    return mask;
  }
  std::fill_n(mask, words, 0);
  for (const int32_t id : rules.allowed) {
    const size_t word = static_cast<size_t>(id) / 32;
    const uint32_t bit = uint32_t{1} << id % 32;
    if (rules.mask.empty() || (rules.mask[word] & bit) != 0) mask[word] |= bit;
  }
  at += 4 * words;
  return mask;
}

void SampleStaging::CopyTop(std::vector<TokenScore>& top) const {
  top.resize(static_cast<size_t>(top_count_));
  const DeviceScore* scores = top_.as<DeviceScore>();
  std::transform(scores, scores + top_count_, top.begin(), [](const DeviceScore& score) {
    return TokenScore{.id = score.id, .logprob = score.logprob};
  });
}

}  // namespace based::cuda
