// Structured log lines on stderr: one event with fields per line, as key=value or as JSON. Values
// are escaped, so nothing a client sends can forge a line. Thread-safe.
#ifndef BASED_SERVER_LOG_H_
#define BASED_SERVER_LOG_H_

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace based {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };

struct LogField {
  absl::string_view key;  // [a-z0-9_]+
  std::variant<absl::string_view, int64_t, double, bool> value;
};

struct LogOptions {
  LogLevel level = LogLevel::kInfo;  // less is left out
  bool json = false;
};

// "debug", "info", "warning", "error" or "off"; INVALID_ARGUMENT otherwise.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name);

// Call before the first Log from a second thread.
void SetLogOptions(const LogOptions& options);

void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields = {});

// The same where the fields are not known beforehand.
void LogFields(LogLevel level, absl::string_view event, absl::Span<const LogField> fields);

// The line that Log writes, without its end. Apart for tests.
std::string FormatLogLine(bool json, std::chrono::system_clock::time_point time, LogLevel level,
                          absl::string_view event, absl::Span<const LogField> fields);

}  // namespace based

#endif  // BASED_SERVER_LOG_H_
