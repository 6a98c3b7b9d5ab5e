#include "tests/sim/sim_executable.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "kernels/step_check.h"

namespace based {
namespace {

constexpr int32_t kVoidId = -3;

// splitmix64's finaliser (Vigna 2015).
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

bool IsAllowed(const SampleRules* rules, int32_t id) {
  if (rules == nullptr) return true;
  const auto holds = [id](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  if (holds(rules->banned) || !(rules->allowed.empty() || holds(rules->allowed))) return false;
  return rules->mask.empty() || (rules->mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
}

}  // namespace

uint64_t SimState(uint64_t state, int32_t token) {
  return Mix(state * 3 + static_cast<uint64_t>(token) + 1);
}

int32_t SimDraw(const SimModel& model, uint64_t state, const SampleParams& params,
                const SampleRules* rules) {
  uint64_t hash = Mix(state ^ Mix(params.seed + static_cast<uint64_t>(params.position)));
  if (model.nonfinite_every > 0 && hash % model.nonfinite_every == 0) return kNone;
  uint64_t counted = 0;
  if (rules != nullptr) {
    for (const TokenCount& count : rules->counts) {
      counted +=
          Mix(static_cast<uint64_t>(count.id) << 32 | static_cast<uint32_t>(count.output_count));
    }
  }
  hash += counted;
  for (int32_t i = 0; i < model.vocab_size; ++i) {
    const auto first = static_cast<int32_t>((hash >> 20) % static_cast<uint64_t>(model.vocab_size));
    const int32_t id = (first + i) % model.vocab_size;
    if (IsAllowed(rules, id)) return id;
  }
  return kNoId;
}

double SimLogprob(uint64_t state, int32_t token) {
  return -1e-3 * static_cast<double>(SimState(state, token) % 10'000);
}

SimExecutable::SimExecutable(const SimModel& model) : model_(model) {
  info_.backend = "sim";
  info_.device = "simulated";
  info_.state_layout = "sim-v1";
  info_.slot_bytes = sizeof(Slot);
  info_.image_bytes = sizeof(Slot);
  info_.available_bytes = int64_t{1} << 20;
  info_.pipeline_depth = model.pipeline_depth;
  info_.vocab_size = model.vocab_size;
  info_.padded_vocab_size = model.vocab_size;
  info_.sampling_rules = true;
  info_.top_logprobs = true;
  info_.late_rules = model.late_rules;
}

void SimExecutable::Require(bool condition, const std::string& what) {
  if (!condition && error_.empty()) error_ = what;
}

absl::Status SimExecutable::CreateSlots(int32_t count) {
  slots_.assign(static_cast<size_t>(count), Slot());
  return absl::OkStatus();
}

void SimExecutable::RunSpan(const StepTable& table, const Span& span,
                            std::vector<uint64_t>& row_state) {
  Slot& slot = slots_[static_cast<size_t>(span.slot)];
  Require(slot.position == span.position,
          absl::StrCat("slot ", span.slot, " holds ", slot.position, " tokens, its span starts at ",
                       span.position));
  for (int32_t row = span.row; row < span.row + span.length; ++row) {
    int32_t token = table.tokens[static_cast<size_t>(row)];
    if (token == kTokenFromPrevious) {
      const auto source = static_cast<size_t>(table.sources[static_cast<size_t>(row)]);
      Require(source < previous_ids_.size(), absl::StrCat("row ", row, " names sample ", source));
      token = source < previous_ids_.size() ? previous_ids_[source] : 0;
      Require(token != kVoidId, absl::StrCat("row ", row, " takes its input from a void sample"));
    }
    slot.before = slot.state;
    slot.state = SimState(slot.state, token);
    ++slot.position;
    row_state[static_cast<size_t>(row)] = slot.state;
  }
}

absl::Status SimExecutable::Launch(const StepTable& table) {
  if (launches_++ == fail_at_) return absl::InternalError("simulated fault");
  Require(static_cast<int32_t>(uncollected_.size()) < info_.pipeline_depth, "pipeline overrun");
  Require(late_.empty(), "launched while a step waits for rules");
  std::vector<uint64_t> row_state(table.tokens.size());
  std::set<int32_t> used;
  int32_t next_row = 0;
  for (const Span& span : table.spans) {
    Require(used.insert(span.slot).second, absl::StrCat("slot ", span.slot, " in two spans"));
    Require(span.row == next_row && span.length > 0, "spans must cover the rows in order");
    next_row += span.length;
    RunSpan(table, span, row_state);
  }
  Require(next_row == static_cast<int32_t>(table.tokens.size()), "rows without a span");
  StepOutput output;
  output.ids.resize(table.samples.size());
  output.logprobs.resize(table.samples.size());
  output.finite.resize(table.samples.size());
  for (size_t i = 0; i < table.samples.size(); ++i) {
    const SampleRow& sample = table.samples[i];
    const uint64_t state = row_state[static_cast<size_t>(sample.row)];
    if (sample.late.has_value()) {
      Require(info_.late_rules && sample.sample && sample.rules == nullptr, "late without need");
      late_.push_back({i, sample, state});
    } else {
      Draw(sample, state, sample.rules, i, output);
    }
    for (int32_t id = 0; id < sample.top_logprobs; ++id) {
      output.top.push_back({id, SimLogprob(state, id)});
    }
  }
  previous_ids_ = output.ids;
  uncollected_.push_back(std::move(output));
  return absl::OkStatus();
}

void SimExecutable::Draw(const SampleRow& sample, uint64_t state, const SampleRules* rules,
                         size_t index, StepOutput& output) const {
  const int32_t id = SimDraw(model_, state, sample.params, rules);
  output.finite[index] = id == kNone ? 0 : 1;
  output.ids[index] = sample.sample ? std::max(id, kNone) : kNone;
  const int32_t target = sample.target == kNone ? id : sample.target;
  output.logprobs[index] = sample.logprob ? SimLogprob(state, target) : 0;
}

absl::Status SimExecutable::SupplyRules(absl::Span<const SampleRules* const> rules) {
  Require(rules.size() == late_.size(),
          absl::StrCat("rules for ", rules.size(), " of ", late_.size(), " late samples"));
  if (!rules.empty()) Require(uncollected_.size() == 1, "the step before is not collected");
  if (!error_.empty()) return absl::InternalError(error_);
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto& [sample, row, state] = late_[i];
    StepOutput& output = uncollected_.back();
    if (rules[i] == nullptr) {
      output.ids[sample] = kNone;
      output.finite[sample] = 1;
      previous_ids_[sample] = kVoidId;
      continue;
    }
    const absl::Status fits = CheckLateRules(*rules[i], *row.late, info_.vocab_size);
    Require(fits.ok(), std::string(fits.message()));
    Draw(row, state, rules[i], sample, output);
    previous_ids_[sample] = output.ids[sample];
  }
  late_.clear();
  return absl::OkStatus();
}

absl::Status SimExecutable::Collect(StepOutput& output) {
  if (uncollected_.empty()) return absl::InternalError("nothing to collect");
  if (uncollected_.size() == 1) Require(late_.empty(), "collected while it waits for rules");
  output = std::move(uncollected_.front());
  uncollected_.pop_front();
  return error_.empty() ? absl::OkStatus() : absl::InternalError(error_);
}

absl::Status SimExecutable::ClearSlots(absl::Span<const int32_t> slots) {
  Require(late_.empty(), "cleared while a step waits for rules");
  for (const int32_t slot : slots) slots_[static_cast<size_t>(slot)] = {.position = 0};
  return absl::OkStatus();
}

absl::Status SimExecutable::CopySlots(absl::Span<const SlotCopy> copies) {
  Require(late_.empty(), "copied while a step waits for rules");
  for (const SlotCopy& copy : copies) {
    slots_[static_cast<size_t>(copy.to)] = slots_[static_cast<size_t>(copy.from)];
  }
  return absl::OkStatus();
}

absl::Status SimExecutable::ExportSlot(int32_t index, int64_t position,
                                       absl::Span<std::byte> image) {
  Slot slot = slots_[static_cast<size_t>(index)];
  Require(late_.empty(), "exported while a step waits for rules");
  Require(
      slot.position == position || slot.position == position + 1,
      absl::StrCat("slot ", index, " holds ", slot.position, " tokens, exported at ", position));
  if (slot.position > position) slot.state = slot.before;
  slot.position = position;
  std::memcpy(image.data(), &slot, sizeof(slot));
  return absl::OkStatus();
}

absl::Status SimExecutable::ImportSlot(int32_t index, int64_t position,
                                       absl::Span<const std::byte> image) {
  Slot& slot = slots_[static_cast<size_t>(index)];
  Require(late_.empty(), "imported while a step waits for rules");
  std::memcpy(&slot, image.data(), sizeof(slot));
  Require(slot.position == position,
          absl::StrCat("an image of ", slot.position, " tokens is imported as one of ", position));
  return absl::OkStatus();
}

}  // namespace based
