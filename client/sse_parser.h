// Server-sent events (the WHATWG's text/event-stream) out of pieces as they come.
#ifndef BASED_CLIENT_SSE_PARSER_H_
#define BASED_CLIENT_SSE_PARSER_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace based {

class SseParser {
 public:
  // Most bytes of a line, and of an event's data.
  static constexpr size_t kMostBytes = 16 << 20;

  // Calls `event` with the data of every event that `piece` completes; its other fields, comments
  // and events without data mean nothing here. RESOURCE_EXHAUSTED beyond kMostBytes.
  absl::Status Put(std::string_view piece, absl::FunctionRef<void(std::string_view data)> event);

 private:
  absl::Status PutLine(std::string_view line, absl::FunctionRef<void(std::string_view data)> event);

  std::string line_;  // begun and not ended
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // a line feed that follows belongs to the line's end
  bool first_line_ = true;
};

}  // namespace based

#endif  // BASED_CLIENT_SSE_PARSER_H_
