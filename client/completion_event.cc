#include "client/completion_event.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using Json = nlohmann::json;

// Hears of the document's pieces in their order.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Value(); }
  bool boolean(bool) override { return Value(); }
  bool number_integer(number_integer_t) override { return Number(); }
  bool number_unsigned(number_unsigned_t) override { return Number(); }
  bool number_float(number_float_t, const string_t&) override { return Value(); }
  bool binary(binary_t&) override { return Value(); }
  bool string(string_t& text) override {
    if (in_error_ && depth_ == kInError) {
      if (key_ == "code") event_.error_code = std::move(text);
      if (key_ == "message") event_.error_message = std::move(text);
    }
    return Value();
  }
  bool key(string_t& name) override {
    std::swap(key_, name);
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == kInRoot && key_ == "error") event_.failed = in_error_ = true;
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (depth_ == kInRoot) in_error_ = false;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0) return false;
    if (depth_ == kInRoot) in_choices_ = key_ == "choices";
    in_ids_ = in_choices_ && depth_ == kInChoice && key_ == "token_ids";
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    in_ids_ = false;
    if (depth_ == kInRoot) in_choices_ = false;
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  CompletionEvent Take() { return std::move(event_); }

 private:
  static constexpr int kInRoot = 1, kInError = 2, kInChoice = 3, kInIds = 4;

  bool Value() const { return depth_ > 0; }
  bool Number() {
    event_.tokens += in_ids_ && depth_ == kInIds;
    return Value();
  }

  CompletionEvent event_;
  int depth_ = 0;
  std::string key_;  // the last one
  bool in_error_ = false, in_choices_ = false, in_ids_ = false;
};

}  // namespace

absl::StatusOr<CompletionEvent> ReadCompletionEvent(std::string_view json) {
  constexpr size_t kExcerpt = 80;
  Reader reader;
  if (Json::sax_parse(json, &reader)) return reader.Take();
  return absl::InvalidArgumentError(absl::StrCat(
      "'", absl::string_view(json.data(), std::min(json.size(), kExcerpt)), "' is no JSON object"));
}

}  // namespace based
