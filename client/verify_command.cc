// based verify: the engine's arithmetic against a golden file.
#include <algorithm>
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/common_flags.h"
#include "client/golden.h"
#include "client/local.h"
#include "client/logits_runner.h"
#include "engine/safetensors.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, golden, "", "Golden file: safetensors with input_ids, logits, prompt_len, "
                                   "greedy_ids and greedy_margin.");
ABSL_FLAG(std::string, dump, "",
          "Writes prefill_logits and step_logits, F64 [sequences, tokens, vocabulary], to this "
          "safetensors file.");
ABSL_FLAG(
    double, tolerance, 0,
    "Largest rel_err that passes; 0: 3e-7 for reference, 1e-5 for cpu, 2e-2 for cuda (bf16).");

namespace based {
namespace {

struct Outcome {
  LogitsError prefill;  // the sequence fed in one step
  LogitsError steps;    // token by token
  int64_t greedy_matches = 0;
  int64_t wide_mismatches = 0;  // greedy ids that differ though the golden margin is not a near tie

  double rel_err() const { return WorseError(prefill.Relative(), steps.Relative()); }
  double max_abs_err() const { return WorseError(prefill.max_abs, steps.max_abs); }
};

double Tolerance(const std::string& backend) {
  if (const double given = absl::GetFlag(FLAGS_tolerance); given > 0) return given;
  if (backend == "reference") return 3e-7;
  return backend == "cpu" ? 1e-5 : 2e-2;
}

// Greedy continuation of the first prompt_length ids; every step feeds the golden id.
absl::Status CompareGreedy(LogitsRunner& runner, const Golden& golden, int64_t n,
                           Outcome& outcome) {
  BASED_RETURN_IF_ERROR(runner.Reset());
  const absl::Span<const int32_t> expected = golden.GreedyIds(n);
  absl::Span<const int32_t> feed = golden.Inputs(n).subspan(0, golden.prompt_length);
  for (int64_t g = 0; g < golden.greedy_steps; ++g) {
    BASED_ASSIGN_OR_RETURN(const int32_t id, runner.Greedy(feed));
    if (id == expected[g]) {
      ++outcome.greedy_matches;
    } else if (golden.greedy_margin[n * golden.greedy_steps + g] > 2 * outcome.max_abs_err()) {
      ++outcome.wide_mismatches;
    }
    feed = expected.subspan(g, 1);
  }
  return absl::OkStatus();
}

// Both runs of sequence n; their logits are appended for the dump.
absl::StatusOr<Outcome> CompareSequence(LogitsRunner& runner, const Golden& golden, int64_t n,
                                        std::vector<double>& prefill, std::vector<double>& steps) {
  Outcome outcome;
  const size_t start = prefill.size();
  BASED_RETURN_IF_ERROR(runner.Reset());
  BASED_RETURN_IF_ERROR(runner.Logits(golden.Inputs(n), prefill));
  BASED_RETURN_IF_ERROR(runner.Reset());
  for (int64_t t = 0; t < golden.length; ++t) {
    BASED_RETURN_IF_ERROR(runner.Logits(golden.Inputs(n).subspan(t, 1), steps));
  }
  outcome.prefill.Add(absl::MakeConstSpan(prefill).subspan(start), golden.Logits(n));
  outcome.steps.Add(absl::MakeConstSpan(steps).subspan(start), golden.Logits(n));
  BASED_RETURN_IF_ERROR(CompareGreedy(runner, golden, n, outcome));
  return outcome;
}

absl::Status Dump(const std::string& path, const Golden& golden, const std::vector<double>& prefill,
                  const std::vector<double>& steps) {
  if (path.empty()) return absl::OkStatus();
  const auto tensor = [&](const char* name, const std::vector<double>& values) {
    return OutputTensor{.name = name,
                        .dtype = "F64",
                        .shape = {golden.sequences, golden.length, golden.vocab},
                        .bytes = absl::MakeConstSpan(
                            reinterpret_cast<const std::byte*>(values.data()),
                            values.size() * sizeof(double))};
  };
  return WriteSafetensors(path, {tensor("prefill_logits", prefill), tensor("step_logits", steps)});
}

absl::Status Verify(const BackendFactory& new_backend) {
  if (absl::GetFlag(FLAGS_golden).empty()) return UsageError("--golden FILE is needed");
  BASED_ASSIGN_OR_RETURN(const Golden golden, ReadGolden(absl::GetFlag(FLAGS_golden)));
  const auto length = static_cast<int32_t>(golden.length);
  BASED_ASSIGN_OR_RETURN(
      const LocalModel local,
      LoadLocalModel(new_backend, {.max_rows = length, .max_spans = 1, .max_samples = length}));
  const ExecutableInfo& info = local.model->executable->info();
  if (info.padded_vocab_size != golden.vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the model's padded vocabulary is ",
                                                   info.padded_vocab_size, ", the golden file's ",
                                                   golden.vocab, "; expected the same"));
  }
  BASED_ASSIGN_OR_RETURN(LogitsRunner runner, LogitsRunner::Create(*local.model->executable));
  std::vector<double> prefill, steps;
  Outcome total;
  for (int64_t n = 0; n < golden.sequences; ++n) {
    BASED_ASSIGN_OR_RETURN(const Outcome outcome,
                           CompareSequence(runner, golden, n, prefill, steps));
    std::printf("sequence=%lld rel_err=%.3e max_abs_err=%.3e greedy_match=%lld/%lld\n",
                static_cast<long long>(n), outcome.rel_err(), outcome.max_abs_err(),
                static_cast<long long>(outcome.greedy_matches),
                static_cast<long long>(golden.greedy_steps));
    total.prefill.Add(outcome.prefill);
    total.steps.Add(outcome.steps);
    total.greedy_matches += outcome.greedy_matches;
    total.wide_mismatches += outcome.wide_mismatches;
  }
  BASED_RETURN_IF_ERROR(Dump(absl::GetFlag(FLAGS_dump), golden, prefill, steps));
  std::printf("rel_err=%.3e max_abs_err=%.3e greedy_match=%lld/%lld\n", total.rel_err(),
              total.max_abs_err(), static_cast<long long>(total.greedy_matches),
              static_cast<long long>(golden.sequences * golden.greedy_steps));
  std::fflush(stdout);
  const double tolerance = Tolerance(info.backend);
  if (!(total.rel_err() <= tolerance)) {
    return absl::InternalError(absl::StrCat("rel_err is ", total.rel_err(), " on backend ",
                                            info.backend, "; expected at most ", tolerance));
  }
  if (total.wide_mismatches > 0) {
    return absl::InternalError(
        absl::StrCat(total.wide_mismatches,
                     " greedy ids differ where the golden margin exceeds twice max_abs_err"));
  }
  return absl::OkStatus();
}

}  // namespace

Command VerifyCommand(BackendFactory new_backend) {
  return {.name = "verify",
          .summary = "Compares the engine with a golden file; fails outside the tolerance.",
          .examples = "  based verify --model tests/golden/tiny-a "
                      "--golden tests/golden/tiny-a/golden.safetensors --backend reference\n",
          .flags = {{"Input", {"model", "golden"}},
                    {"Comparison", {"tolerance", "dump"}},
                    kEngineFlags},
          .run = [new_backend](const CommandLine&) { return Verify(new_backend); }};
}

}  // namespace based
