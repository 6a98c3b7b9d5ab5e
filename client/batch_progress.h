// How far a batch is, for people: a bar on a terminal, a line now and then elsewhere.
#ifndef BASED_CLIENT_BATCH_PROGRESS_H_
#define BASED_CLIENT_BATCH_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace based {

struct BatchProgress {
  int64_t lines = 0;
  int64_t finished = 0;  // those of earlier runs included
  int64_t failed = 0;
  int64_t in_flight = 0;
  // Of this run alone.
  int64_t finished_now = 0;
  int64_t tokens_now = 0;
  double work_now = 0;   // of finished lines, in the unit of BatchLineFacts::work
  double work_left = 0;  // of those not finished
  double seconds = 0;
  bool waiting = false;  // for the daemon to come back
};

// "3,200/20,000 lines  16.0%  410.2 lines/s  13126 tokens/s  in flight 72  failed 1  left 0:41".
// The time left follows from the work, not the lines: long lines come first.
std::string ProgressText(const BatchProgress& progress);
// The same behind a bar of `width` characters.
std::string ProgressBar(const BatchProgress& progress, int width);

// "0:41", "2:03:09"; "?" for what is not known.
std::string DurationText(double seconds);

// Prints on standard error, no more often than is useful.
class ProgressPrinter {
 public:
  explicit ProgressPrinter(bool quiet);
  void Print(const BatchProgress& progress);
  void Finish(const BatchProgress& progress);

 private:
  using Clock = std::chrono::steady_clock;
  const bool quiet_;
  const bool terminal_;
  Clock::time_point next_;
};

}  // namespace based

#endif  // BASED_CLIENT_BATCH_PROGRESS_H_
