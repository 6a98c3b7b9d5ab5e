#include "engine/jinja/run.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace based::jinja {
namespace {

// Messages repeat what clients sent: cut, between characters.
absl::string_view Cut(std::string_view message) {
  constexpr size_t kLongest = 500;
  size_t size = message.size();
  if (size > kLongest) {
    size = kLongest;
    while ((static_cast<uint8_t>(message[size]) & 0xC0) == 0x80) --size;
  }
  return {message.data(), size};
}

}  // namespace

bool Run::Spend(size_t bytes) {
  if (!ok()) return false;
  if (static_cast<int64_t>(bytes) > left_) {
    Fail(absl::StrCat("takes more than ", kMaxCost, " bytes of work"));
    return false;
  }
  left_ -= static_cast<int64_t>(bytes);
  return true;
}

Value Run::Fail(std::string_view message) {
  if (ok()) status_ = absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", Cut(message)));
  return {};
}

Value Run::Raise(std::string_view message) {
  if (ok()) status_ = absl::AbortedError(Cut(message));
  return {};
}

Value Run::Contained(Value value) {
  if (!value.plain()) {
    return Fail(absl::StrCat("a ", value.type_name(), " within another value is not supported"));
  }
  if (value.depth() >= kMaxValueDepth) {
    return Fail(absl::StrCat("lists and dicts nest deeper than ", kMaxValueDepth));
  }
  return value;
}

}  // namespace based::jinja
