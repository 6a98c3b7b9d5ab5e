#include "server/log.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

LogOptions& Options() {
  static LogOptions options;
  return options;
}

constexpr std::array<absl::string_view, 5> kLevelNames = {"debug", "info", "warning", "error",
                                                         "off"};

// Quoted and ASCII: control characters, quotes, backslashes and everything above 0x7E are escaped;
// bytes that are not UTF-8 become U+FFFD.
std::string Quote(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

bool IsPlain(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           absl::string_view("_-./:,[]%").find(c) != absl::string_view::npos;
  });
}

std::string ValueText(const LogField& field, bool json) {
  if (const auto* text = std::get_if<absl::string_view>(&field.value)) {
    return !json && IsPlain(*text) ? std::string(*text) : Quote(*text);
  }
  if (const auto* integer = std::get_if<int64_t>(&field.value)) return absl::StrCat(*integer);
  if (const auto* real = std::get_if<double>(&field.value)) return nlohmann::json(*real).dump();
  return std::get<bool>(field.value) ? "true" : "false";
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (name == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name, "' is no log level; expected debug, info, warning, error or off"));
}

void SetLogOptions(const LogOptions& options) { Options() = options; }

std::string FormatLogLine(bool json, std::chrono::system_clock::time_point time, LogLevel level,
                          absl::string_view event, absl::Span<const LogField> fields) {
  const std::string stamp = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromChrono(time),
                                             absl::UTCTimeZone());
  const absl::string_view name = kLevelNames[static_cast<size_t>(level)];
  std::string line = json ? absl::StrCat("{\"time\":\"", stamp, "\",\"level\":\"", name,
                                         "\",\"event\":", Quote(event))
                          : absl::StrCat("time=", stamp, " level=", name, " event=",
                                         IsPlain(event) ? std::string(event) : Quote(event));
  for (const LogField& field : fields) {
    if (json) {
      absl::StrAppend(&line, ",\"", field.key, "\":", ValueText(field, json));
    } else {
      absl::StrAppend(&line, " ", field.key, "=", ValueText(field, json));
    }
  }
  if (json) line += '}';
  return line;
}

void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields) {
  LogFields(level, event, fields);
}

void LogFields(LogLevel level, absl::string_view event, absl::Span<const LogField> fields) {
  if (level < Options().level) return;
  std::string line =
      FormatLogLine(Options().json, std::chrono::system_clock::now(), level, event, fields);
  line += '\n';
  // One write: lines of several threads do not mix. A log that cannot be written is no reason to
  // stop.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace based
