#include "server/header_guard.h"

#include <algorithm>

namespace based {
namespace {

constexpr uint8_t kHeaders = 1, kSettings = 4, kContinuation = 9;
constexpr uint8_t kAck = 1;

}  // namespace

bool HeaderGuard::Pass(absl::string_view bytes, absl::FunctionRef<bool()> has_spoken) {
  while (!bytes.empty() && spent_ <= most_) {
    if (skip_ > 0) {
      const size_t skipped = std::min(skip_, bytes.size());
      skip_ -= skipped;
      bytes.remove_prefix(skipped);
      continue;
    }
    head_[filled_++] = static_cast<uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    if (filled_ == kHeadBytes) Begin(has_spoken);
  }
  return spent_ <= most_;
}

void HeaderGuard::Begin(absl::FunctionRef<bool()> has_spoken) {
  filled_ = 0;
  skip_ = size_t{head_[0]} << 16 | size_t{head_[1]} << 8 | head_[2];
  const uint8_t kind = head_[3], flags = head_[4];
  if (kind == kSettings && (flags & kAck) != 0 && !acknowledged_) {
    acknowledged_ = has_spoken();
  }
  if (kind == kHeaders && acknowledged_) spent_ = 0;
  if (kind == kHeaders || kind == kContinuation) spent_ += kHeadBytes + skip_;
}

}  // namespace based
