#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/unicode_class.h"

#include <pcre2.h>

#include <memory>
#include <string>

#include "engine/split_pattern.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"

namespace based {
namespace {

// Alphabetic is letters, letter numbers and Other_Alphabetic; of the latter, what is not a mark
// anyway are the circled and squared letters.
constexpr char kWordPattern[] =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149})"
    R"(\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}])";

pcre2_code* CompileWordPattern() {
  const auto pattern = ToPcre2Pattern(kWordPattern);
  BASED_CHECK(pattern.ok());
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern->data()), pattern->size(),
                    PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  BASED_CHECK(code != nullptr);
  return code;
}

}  // namespace

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t character) {
  static const pcre2_code* const code = CompileWordPattern();
  std::string text;
  AppendUtf8(character, &text);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                     match.get(), nullptr) > 0;
}

}  // namespace based
