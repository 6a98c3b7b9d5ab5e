// Prints a completion as it comes: text, or JSON with one object per message.
#ifndef BASED_CLIENT_GENERATE_PRINTER_H_
#define BASED_CLIENT_GENERATE_PRINTER_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "client/generate_event.h"
#include "client/generate_stats.h"

namespace based {

struct PrinterOptions {
  bool json = false;
  bool several = false;  // completions, which are printed whole, each when it has ended
  bool stats = false;    // tokens and times on standard error at the end
};

// Writes to standard output. Where deltas carry token ids, text mode prints those.
class GeneratePrinter {
 public:
  explicit GeneratePrinter(const PrinterOptions& options) : options_(options) {}

  void Print(const GenerateEvent& event);
  // After the last event, also when an error ended the stream.
  void End();

 private:
  using Clock = std::chrono::steady_clock;

  void PrintText(const GenerateEvent& event);

  const PrinterOptions options_;
  const Clock::time_point start_ = Clock::now();
  std::map<int32_t, std::string> texts_;  // of completions that have not ended, where several
  bool any_ = false;
  GenerateStats stats_;
};

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_PRINTER_H_
