#include "client/perplexity_command.h"

#include <unistd.h>

#include <cstdio>
#include <numbers>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/common_flags.h"
#include "client/input.h"
#include "kernels/base/status.h"

ABSL_FLAG(int32_t, window, 1024,
          "Tokens per window; each starts afresh after end-of-text. plan: window_size of the model, "
          "which stays as it is without this flag.");

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

// Windows that are scored at a time.
constexpr int32_t kWindows = 8;
constexpr int32_t kMostWindow = 1 << 20;

absl::Status Perplexity(const TextScorerFactory& new_scorer) {
  const int32_t window = absl::GetFlag(FLAGS_window);
  if (window < 1 || window > kMostWindow) {
    return UsageError(
        absl::StrCat("--window is ", window, "; expected a number in [1, ", kMostWindow, "]"));
  }
  if (absl::GetFlag(FLAGS_file).empty()) return UsageError("--file FILE is needed");
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadInput(absl::GetFlag(FLAGS_file)));
  if (text.empty()) return absl::InvalidArgumentError("the file is empty; expected text");
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<TextScorer> scorer, new_scorer(window));
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, scorer->Tokenize(text));

  double log_probability = 0;
  {
    const ProgressBar progress(ids.size());
    const size_t part = static_cast<size_t>(window) * kWindows;
    for (size_t start = 0; start < ids.size(); start += part) {
      progress.Show(start);
      BASED_ASSIGN_OR_RETURN(
          const double sum,
          scorer->LogProbability(absl::MakeConstSpan(ids).subspan(start, part), window));
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

Command PerplexityCommand(TextScorerFactory daemon, TextScorerFactory here) {
  return {.name = "perplexity",
          .summary = "Bits per byte of a text under a model, here or at a daemon.",
          .examples =
              "  based perplexity --model models/demo --file valid.txt\n"
              "  xz -dc valid.txt.xz | based perplexity --model models/demo --file -\n"
              "  based perplexity --address 127.0.0.1:7433 --file valid.txt\n",
          .flags = {{"Input", {"model", "tokenizer", "file", "window"}},
                    kEngineFlags,
                    {"At a daemon, where --address is given", kDaemonFlags.flags}},
          .run = [daemon = std::move(daemon), here = std::move(here)](const CommandLine& line) {
            return Perplexity(line.Has("address") ? daemon : here);
          }};
}

}  // namespace based
