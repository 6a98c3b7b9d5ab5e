// based perplexity: bits per byte of a text under a model, in this process.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <numbers>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/common_flags.h"
#include "client/input.h"
#include "client/local.h"
#include "client/logits_runner.h"
#include "kernels/base/status.h"

ABSL_FLAG(int32_t, window, 1024, "Tokens per window; each starts afresh after end-of-text.");

namespace based {
namespace {

// One line on standard error, rewritten; nothing when that is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(size_t total) : total_(total) {}
  ~ProgressBar() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

  void Show(size_t done) const {
    if (!terminal_) return;
    constexpr int kWidth = 40;
    const int filled = static_cast<int>(kWidth * done / total_);
    std::fprintf(stderr, "\r[%.*s%*s] %3d%%", filled, "========================================",
                 kWidth - filled, "", static_cast<int>(100 * done / total_));
    std::fflush(stderr);
  }

 private:
  const size_t total_;
  const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
};

absl::Status Perplexity(const BackendFactory& new_backend) {
  const int32_t window = absl::GetFlag(FLAGS_window);
  if (window < 1) return UsageError(absl::StrCat("--window is ", window, "; expected 1 or more"));
  if (absl::GetFlag(FLAGS_file).empty()) return UsageError("--file FILE is needed");
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadInput(absl::GetFlag(FLAGS_file)));
  if (text.empty()) return absl::InvalidArgumentError("the file is empty; expected text");
  BASED_ASSIGN_OR_RETURN(
      const LocalModel local,
      LoadLocalModel(new_backend, {.max_rows = window, .max_spans = 1, .max_samples = window}));
  const Model& model = *local.model;
  if (model.tokenizer == nullptr) {
    return absl::FailedPreconditionError("the model has no tokenizer; expected --tokenizer DIR");
  }
  if (model.config.eos_token_id < 0) {
    return absl::FailedPreconditionError(
        "the model has no end-of-text token to start windows with");
  }
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, model.tokenizer->Encode(text));
  BASED_ASSIGN_OR_RETURN(LogitsRunner runner, LogitsRunner::Create(*model.executable));

  double log_probability = 0;
  {
    const ProgressBar progress(ids.size());
    std::vector<int32_t> inputs;
    for (size_t start = 0; start < ids.size(); start += static_cast<size_t>(window)) {
      progress.Show(start);
      const auto targets =
          absl::MakeConstSpan(ids).subspan(start, static_cast<size_t>(window));
      inputs.assign(1, model.config.eos_token_id);
      inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
      BASED_RETURN_IF_ERROR(runner.Reset());
      BASED_ASSIGN_OR_RETURN(const double sum, runner.LogProbability(inputs, targets));
      log_probability += sum;
    }
  }
  const double bits = -log_probability / std::numbers::ln2;
  std::printf("tokens=%zu bytes=%zu windows=%zu bits_per_token=%.6f\n", ids.size(), text.size(),
              (ids.size() + static_cast<size_t>(window) - 1) / static_cast<size_t>(window),
              bits / static_cast<double>(ids.size()));
  std::printf("bits_per_byte=%.6f\n", bits / static_cast<double>(text.size()));
  return absl::OkStatus();
}

}  // namespace

Command PerplexityCommand(BackendFactory new_backend) {
  return {.name = "perplexity",
          .summary = "Bits per byte of a text under a model, computed in this process.",
          .examples = "  based perplexity --model models/demo --file valid.txt\n"
                      "  xz -dc valid.txt.xz | based perplexity --model models/demo --file -\n",
          .flags = {{"Input", {"model", "tokenizer", "file", "window"}}, kEngineFlags},
          .run = [new_backend](const CommandLine&) { return Perplexity(new_backend); }};
}

}  // namespace based
