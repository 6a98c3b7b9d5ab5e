// Chat templates: whatever the template and the messages, the rendering ends with a text within the
// limit or one message, and the next rendering says the same.
//
// Input: the messages as JSON, a zero byte, the template.
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/jinja/run.h"
#include "engine/jinja/template.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  FuzzInput input(data, size);
  const std::string_view text = input.TakeUntil('\0');
  nlohmann::json messages = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (messages.is_discarded()) messages = nlohmann::json::array();
  const auto compiled = jinja::Template::Compile(input.Rest());
  if (!compiled.ok()) {
    BASED_CHECK(compiled.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  const jinja::Entries globals = {{"messages", jinja::Value::OfJson(messages)},
                                  {"add_generation_prompt", true},
                                  {"bos_token", "<s>"},
                                  {"eos_token", "</s>"}};
  const auto now = std::chrono::system_clock::from_time_t(0);
  const auto first = compiled->Render(globals, now);
  if (first.ok()) {
    BASED_CHECK(first->size() <= jinja::kMaxOutputBytes);
    BASED_CHECK(FindInvalidUtf8(*first) == std::string_view::npos);
  } else {
    BASED_CHECK(first.status().code() == absl::StatusCode::kInvalidArgument ||
                first.status().code() == absl::StatusCode::kAborted);
  }
  const auto second = compiled->Render(globals, now);
  BASED_CHECK(second.status() == first.status() && (!first.ok() || *second == *first));
  return 0;
}
