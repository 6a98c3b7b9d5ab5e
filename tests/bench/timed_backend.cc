#include "tests/bench/timed_backend.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

// splitmix64's finaliser (Vigna 2015).
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

class TimedExecutable final : public Executable {
 public:
  TimedExecutable(const TimedOptions& options, int32_t vocab_size) : options_(options) {
    info_.backend = "timed";
    info_.device = "none: steps take programmed time";
    info_.state_layout = "timed-v1";
    info_.slot_bytes = options.slot_bytes;
    info_.image_bytes = options.slot_bytes;
    info_.pipeline_depth = 2;
    info_.vocab_size = vocab_size;
    info_.padded_vocab_size = vocab_size;
  }

  const ExecutableInfo& info() const override { return info_; }

  absl::Status CreateSlots(int32_t count) override {
    slots_.assign(static_cast<size_t>(count), 0);
    return absl::OkStatus();
  }

  absl::Status Launch(const StepTable& table) override {
    Step step;
    std::chrono::nanoseconds duration = options_.fixed;
    std::vector<uint64_t> row_state(table.tokens.size());
    for (const Span& span : table.spans) {
      duration += span.length * (span.length == 1 ? options_.decode : options_.prefill);
      uint64_t& state = slots_[static_cast<size_t>(span.slot)];
      for (int32_t row = span.row; row < span.row + span.length; ++row) {
        const auto r = static_cast<size_t>(row);
        const int32_t token = table.tokens[r] == kTokenFromPrevious
                                  ? previous_[static_cast<size_t>(table.sources[r])]
                                  : table.tokens[r];
        state = Mix(state * 3 + static_cast<uint64_t>(token) + 1);
        row_state[r] = state;
      }
    }
    for (const SampleRow& sample : table.samples) {
      const uint64_t draw = Mix(row_state[static_cast<size_t>(sample.row)] ^ sample.params.seed);
      step.output.ids.push_back(
          static_cast<int32_t>(draw % static_cast<uint64_t>(info_.vocab_size)));
    }
    step.output.finite.assign(table.samples.size(), 1);
    step.output.logprobs.assign(table.samples.size(), 0);
    previous_ = step.output.ids;
    busy_until_ = std::max(busy_until_, Clock::now()) + duration;
    step.done = busy_until_;
    steps_.push_back(std::move(step));
    return absl::OkStatus();
  }

  absl::Status Collect(StepOutput& output) override {
    if (steps_.empty()) return absl::InternalError("nothing to collect");
    Step step = std::move(steps_.front());
    steps_.pop_front();
    std::this_thread::sleep_until(step.done);
    output = std::move(step.output);
    return absl::OkStatus();
  }

  absl::Status ClearSlots(absl::Span<const int32_t> slots) override {
    for (const int32_t slot : slots) slots_[static_cast<size_t>(slot)] = 0;
    return absl::OkStatus();
  }

  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override {
    for (const SlotCopy& copy : copies) {
      slots_[static_cast<size_t>(copy.to)] = slots_[static_cast<size_t>(copy.from)];
    }
    return absl::OkStatus();
  }

  // Waits for the device, as one with memory of its own must.
  absl::Status ExportSlot(int32_t slot, int64_t, absl::Span<std::byte> image) override {
    std::this_thread::sleep_until(busy_until_);
    std::memcpy(image.data(), &slots_[static_cast<size_t>(slot)], sizeof(uint64_t));
    return absl::OkStatus();
  }

  absl::Status ImportSlot(int32_t slot, int64_t, absl::Span<const std::byte> image) override {
    std::memcpy(&slots_[static_cast<size_t>(slot)], image.data(), sizeof(uint64_t));
    return absl::OkStatus();
  }

 private:
  struct Step {
    StepOutput output;
    Clock::time_point done;
  };

  const TimedOptions options_;
  ExecutableInfo info_;
  std::vector<uint64_t> slots_;  // hash of each slot's tokens
  std::vector<int32_t> previous_;
  std::deque<Step> steps_;
  Clock::time_point busy_until_;
};

class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(const TimedOptions& options) : options_(options) {}

  std::string name() const override { return "timed"; }
  CompileOptions DefaultOptions() const override {
    return {.max_rows = options_.max_rows,
            .max_spans = options_.max_spans,
            .max_samples = options_.max_spans};
  }
  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program& program,
                                                      const CompileOptions&) override {
    return std::make_unique<TimedExecutable>(options_,
                                             std::get<LogitsOp>(program.ops.back()).vocab_size);
  }

 private:
  const TimedOptions options_;
};

}  // namespace

std::unique_ptr<Backend> NewTimedBackend(const TimedOptions& options) {
  return std::make_unique<TimedBackend>(options);
}

}  // namespace based
