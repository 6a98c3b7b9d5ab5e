#include "tests/bench/load_report.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace based {
namespace {

double ProcessorSecondsOf(int32_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  // The name may hold spaces; user and system ticks are the 12th and 13th field behind it.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  long user = 0, system = 0;
  if (std::sscanf(text.c_str() + name_end + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system) != 2) {
    return 0;
  }
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

Moment Moment::Now(int32_t server_pid) {
  return {.when = Clock::now(),
          .server = ProcessorSecondsOf(server_pid > 0 ? server_pid : ::getpid()),
          .client = ProcessorSecondsOf(::getpid())};
}

std::vector<float> GapsBetween(const std::vector<LoadStream::Record>& records,
                               Clock::time_point from, Clock::time_point to) {
  std::vector<float> gaps;
  for (const auto& record : records) {
    for (const auto& gap : record.gaps) {
      if (gap.when >= from && gap.when < to) gaps.push_back(gap.seconds);
    }
  }
  return gaps;
}

void PrintLoad(const std::vector<LoadStream::Record>& records, const Moment& begin,
               const Moment& end) {
  int64_t tokens = 0, all = 0, messages = 0;
  std::vector<float> first;
  for (const auto& record : records) {
    for (const Clock::time_point when : record.tokens) {
      tokens += when >= begin.when && when < end.when;
    }
    all += static_cast<int64_t>(record.tokens.size());
    messages += record.messages;
    first.insert(first.end(), record.first_token.begin(), record.first_token.end());
  }
  const double seconds = std::chrono::duration<double>(end.when - begin.when).count();
  const auto count = static_cast<double>(tokens);
  const std::vector<float> gaps = GapsBetween(records, begin.when, end.when);
  std::printf(
      "tokens_per_s=%.0f tokens_per_delta=%.3f ttft_p50_ms=%.2f ttft_p99_ms=%.2f "
      "itl_p50_ms=%.2f itl_p99_ms=%.2f processor_us_per_token=%.2f client_us_per_token=%.2f",
      count / seconds, static_cast<double>(all) / static_cast<double>(messages),
      1e3 * Quantile(first, 0.5), 1e3 * Quantile(first, 0.99), 1e3 * Quantile(gaps, 0.5),
      1e3 * Quantile(gaps, 0.99), 1e6 * (end.server - begin.server) / count,
      1e6 * (end.client - begin.client) / count);
}

}  // namespace based
