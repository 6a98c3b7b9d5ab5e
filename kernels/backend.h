// The seam between the engine and the hardware.
//
//   Backend     one device (the reference interpreter, the CPU, one GPU): compiles a Program
//   Executable  a compiled model with its weights, workspace and pool of state slots
//
// The engine knows tokens, spans and slots; a backend knows memory, kernels and streams. Neither
// knows of requests. What each op computes is defined in program.h, what sampling means in
// sampling.h; the reference backend is the executable specification of both.
//
// Threads: an Executable is driven by one thread. Calls return quickly and take effect in the
// order made; only Collect, ExportSlot and ImportSlot wait for the device.
//
// Late rules: what a draw may give can depend on the draw before it, which is not known yet when a
// step is launched ahead. Such a sample's rules are supplied while its step is on the device, which
// goes as far as it can without them:
//
//   Launch(n)  Launch(n + 1), some samples late  Collect(n)  SupplyRules, of n + 1  Collect(n + 1)
#ifndef BASED_KERNELS_BACKEND_H_
#define BASED_KERNELS_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/program.h"
#include "kernels/sampling.h"

namespace based {

// A run of consecutive tokens of one sequence. Length 1 is a decode, anything longer (or the same
// thing shorter) a prefill chunk: there is no other difference.
struct Span {
  int32_t slot = 0;
  int32_t row = 0;       // first row of the step
  int32_t length = 0;    // rows; at least 1
  int64_t position = 0;  // tokens of this sequence that the slot's state already holds
};

// How large SampleRules may be.
struct RuleSizes {
  int32_t counts = 0;
  int32_t biases = 0;
  int32_t banned = 0;
  bool mask = false;  // allowed ids, a mask, or both
};

// One wish for logits: of which row, and what to do with them.
struct SampleRow {
  int32_t row = 0;       // row of the step whose logits are used
  SampleParams params;   // how to draw; params.position is the RNG counter
  bool sample = true;    // draw an id
  bool logprob = false;  // report log p of `target`, or of the drawn id when target is kNone
  bool logits = false;   // report all V raw logits (before masking); for verify and tests
  int32_t target = kNone;
  int32_t top_logprobs = 0;  // report this many of the most likely ids
  // Null: none. Read by Launch only. Not null only where info().sampling_rules.
  const SampleRules* rules = nullptr;
  // Set: the sample is late. Its rules come by SupplyRules and are at most so large, so that room
  // for them is made before the step is launched; `sample` is true and `rules` null. Set only where
  // info().late_rules.
  std::optional<RuleSizes> late;
};

inline constexpr int32_t kTokenFromPrevious = -1;

// One ragged batch. Rows [0, T) are covered by `spans` in order and without gaps; a slot appears in
// at most one span.
struct StepTable {
  std::vector<int32_t> tokens;  // [T] input id, or kTokenFromPrevious
  // [T] where tokens[t] is kTokenFromPrevious: index into the `samples` of the step launched just
  // before this one; its drawn id, which the host may not know yet, is the input.
  std::vector<int32_t> sources;
  std::vector<Span> spans;
  std::vector<SampleRow> samples;
};

// What came of one step, aligned with StepTable::samples.
struct StepOutput {
  // Drawn id, or kNone where sample was false, rules leave none or the sample is void
  // (SupplyRules).
  std::vector<int32_t> ids;
  // Natural log, over ids < vocab_size, before any sampling rule; 0 if not asked.
  std::vector<double> logprobs;
  // 0: NaN or Inf among the logits of ids < vocab_size; the id is then kNone.
  std::vector<uint8_t> finite;
  std::vector<double> logits;  // [number of samples with .logits, V]
  // Per sample min(top_logprobs, vocab_size) entries, in the order of the samples; most likely
  // first, logprobs as above. Entries of a sample that is not finite have id -1.
  std::vector<TokenScore> top;
  // How the step ran: rows computed beyond its own, to fill a captured graph; whether it was one.
  int32_t padded_rows = 0;
  bool replayed = false;
};

struct SlotCopy {
  int32_t from = 0;
  int32_t to = 0;
};

struct CompileOptions {
  int32_t max_rows = 512;     // most rows (tokens) of a step
  int32_t max_spans = 256;    // most spans of a step
  int32_t max_samples = 256;  // most SampleRows of a step
};

struct ExecutableInfo {
  std::string backend;  // "reference", "cpu" or "cuda"
  std::string device;   // for people: "4 threads, AVX2" or "NVIDIA H100 80GB HBM3"
  // Identifies the bytes of ExportSlot; equal strings can exchange images.
  std::string state_layout;
  int64_t weight_bytes = 0;     // memory held for weights
  int64_t workspace_bytes = 0;  // memory held for activations and logits
  int64_t slot_bytes = 0;       // memory per slot, all layers
  int64_t image_bytes = 0;      // bytes of one ExportSlot
  int64_t available_bytes = 0;  // memory left for slots at this moment
  int32_t pipeline_depth = 1;   // steps that may be launched and not yet collected
  int32_t vocab_size = 0;
  int32_t padded_vocab_size = 0;  // V
  bool sampling_rules = false;    // SampleRow::rules is followed
  bool top_logprobs = false;      // SampleRow::top_logprobs is followed
  bool late_rules = false;        // SampleRow::late is followed
};

class Executable {
 public:
  virtual ~Executable() = default;

  virtual const ExecutableInfo& info() const = 0;

  // Makes the pool: one allocation of `count` slots, all clear. Called once, before the first
  // Launch. RESOURCE_EXHAUSTED when the memory is not there.
  virtual absl::Status CreateSlots(int32_t count) = 0;

  // Enqueues one step. REQUIRES: fewer than pipeline_depth steps uncollected, none of them waits
  // for rules, table within CompileOptions and slots in range. An error is fatal for the device:
  // the caller stops serving.
  virtual absl::Status Launch(const StepTable& table) = 0;

  // Gives the late samples of the step launched last their rules, in the order of the samples.
  // Null: nobody wants the draw any more. The sample is void: its id is kNone, the logprob of that
  // 0, and no row may take its input from it. Rules are read before this returns. Nothing happens
  // where the step has no late sample and `rules` is empty, nor without an uncollected step.
  // REQUIRES: the step before has been collected; called once for a step with late samples, before
  // it is collected, and before any call but Collect of the step before it. The device waits a
  // limited time: the caller does nothing else first. An error is fatal for the device: INTERNAL
  // when there are not as many as late samples, rules are larger than was said or the step awaits
  // none, INVALID_ARGUMENT for a mask as in Launch. After an error, and when the executable is
  // destroyed, samples that still wait are void.
  virtual absl::Status SupplyRules(absl::Span<const SampleRules* const> rules) {
    return rules.empty() ? absl::OkStatus()
                         : absl::UnimplementedError("this backend takes no late rules");
  }

  // Waits for the oldest uncollected step. `output` is overwritten; its vectors are reused.
  // INTERNAL, at once, where it waits for rules, and where it waited for them too long.
  virtual absl::Status Collect(StepOutput& output) = 0;

  // Slots become those of an empty sequence (position 0).
  virtual absl::Status ClearSlots(absl::Span<const int32_t> slots) = 0;

  // The fork, snapshot and park of the engine: one fixed-size copy each. No `to` is also a `from`.
  virtual absl::Status CopySlots(absl::Span<const SlotCopy> copies) = 0;

  // Slot to bytes and back, bit for bit. `image` has info().image_bytes bytes; `position` is the
  // sequence's token count. Headers, checksums and digests are the engine's.
  virtual absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) = 0;
  virtual absl::Status ImportSlot(int32_t slot, int64_t position,
                                  absl::Span<const std::byte> image) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;

  // Limits of a step that suit this device, for callers that have no wish of their own.
  virtual CompileOptions DefaultOptions() const { return {}; }

  // Checks shapes, packs weights and makes the workspace. INVALID_ARGUMENT names the weight or op
  // whose shape is wrong, UNIMPLEMENTED a shape that this backend has no kernel for,
  // RESOURCE_EXHAUSTED missing memory.
  virtual absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program& program,
                                                              const CompileOptions& options) = 0;
};

}  // namespace based

#endif  // BASED_KERNELS_BACKEND_H_
