#include "client/batch_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace based {
namespace {

constexpr int kBarWidth = 24;
constexpr std::chrono::milliseconds kTerminalInterval(200);
constexpr std::chrono::seconds kLogInterval(10);

std::string WithCommas(int64_t number) {
  std::string text = absl::StrCat(number);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

double Share(const BatchProgress& progress) {
  if (progress.lines == 0) return 1;
  return static_cast<double>(progress.finished) / static_cast<double>(progress.lines);
}

}  // namespace

std::string DurationText(double seconds) {
  if (!(seconds >= 0) || seconds > 1e8) return "?";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 3600) return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
  return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string ProgressText(const BatchProgress& progress) {
  const double seconds = std::max(progress.seconds, 1e-9);
  const double left = progress.finished == progress.lines ? 0
                      : progress.work_now > 0 ? progress.work_left * seconds / progress.work_now
                                              : NAN;
  std::string text =
      absl::StrFormat("%s/%s lines  %.1f%%  %.1f lines/s  %.0f tokens/s  in flight %d",
                      WithCommas(progress.finished), WithCommas(progress.lines),
                      100 * Share(progress), static_cast<double>(progress.finished_now) / seconds,
                      static_cast<double>(progress.tokens_now) / seconds, progress.in_flight);
  if (progress.failed > 0) absl::StrAppend(&text, "  failed ", WithCommas(progress.failed));
  if (progress.waiting) absl::StrAppend(&text, "  waiting for the daemon");
  return absl::StrCat(text, "  left ", DurationText(left));
}

std::string ProgressBar(const BatchProgress& progress, int width) {
  const int full = static_cast<int>(Share(progress) * width);
  return absl::StrCat("[", std::string(static_cast<size_t>(full), '#'),
                      std::string(static_cast<size_t>(width - full), '.'), "] ",
                      ProgressText(progress));
}

ProgressPrinter::ProgressPrinter(bool quiet)
    : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

void ProgressPrinter::Print(const BatchProgress& progress) {
  const Clock::time_point now = Clock::now();
  if (quiet_ || now < next_) return;
  if (terminal_) {
    // Back to the beginning of the line, and clear what a longer text left.
    std::fprintf(stderr, "\r%s\x1b[K", ProgressBar(progress, kBarWidth).c_str());
    next_ = now + kTerminalInterval;
  } else {
    std::fprintf(stderr, "%s\n", ProgressText(progress).c_str());
    next_ = now + kLogInterval;
  }
}

void ProgressPrinter::Finish(const BatchProgress& progress) {
  if (quiet_) return;
  next_ = Clock::time_point();
  Print(progress);
  if (terminal_) std::fputc('\n', stderr);
}

}  // namespace based
