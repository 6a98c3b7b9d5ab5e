#include "client/sse_parser.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

absl::Status TooLong() {
  return absl::ResourceExhaustedError(
      absl::StrCat("an event is longer than ", SseParser::kMostBytes, " bytes"));
}

}  // namespace

absl::Status SseParser::Put(std::string_view piece,
                            absl::FunctionRef<void(std::string_view data)> event) {
  while (!piece.empty()) {
    if (after_return_ && piece.front() == '\n') piece.remove_prefix(1);
    after_return_ = false;
    const size_t feed = piece.find('\n');
    const size_t end = std::min(feed, piece.substr(0, feed).find('\r'));
    const std::string_view rest = piece.substr(0, end);
    if (line_.size() + rest.size() > kMostBytes) return TooLong();
    if (end == std::string_view::npos) {
      line_ += rest;
      return absl::OkStatus();
    }
    if (line_.empty()) {
      BASED_RETURN_IF_ERROR(PutLine(rest, event));
    } else {
      line_ += rest;
      BASED_RETURN_IF_ERROR(PutLine(line_, event));
      line_.clear();
    }
    after_return_ = piece[end] == '\r';
    piece.remove_prefix(end + 1);
  }
  return absl::OkStatus();
}

absl::Status SseParser::PutLine(std::string_view line,
                                absl::FunctionRef<void(std::string_view data)> event) {
  if (first_line_ && line.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    line.remove_prefix(kByteOrderMark.size());
  }
  first_line_ = false;
  if (line.empty()) {
    if (has_data_) event(data_);
    data_.clear();
    has_data_ = false;
    return absl::OkStatus();
  }
  const size_t colon = line.find(':');
  if (line.substr(0, colon) != "data") return absl::OkStatus();
  std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (data_.size() + value.size() >= kMostBytes) return TooLong();
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
  return absl::OkStatus();
}

}  // namespace based
