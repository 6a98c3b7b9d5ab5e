// Hugging Face's regular expressions (Oniguruma, Ruby syntax, Unicode 16) said in PCRE2's words.
#ifndef BASED_ENGINE_SPLIT_PATTERN_H_
#define BASED_ENGINE_SPLIT_PATTERN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace based {

// GPT-2's split pattern: what pre_tokenizer ByteLevel with use_regex means.
extern const char kGpt2SplitPattern[];

// A pattern for PCRE2 (UTF, UCP) that matches what `pattern` matches in Oniguruma:
//   \p{..}  gains the characters that Unicode 16 assigned and PCRE2's tables may lack (Debian 12
//           has Unicode 14). One exception stays: U+1171E is Mn there and Mc in Unicode 16.
//   \s, \S  become the Unicode White_Space list; PCRE2's \s has U+180E too.
// Constructs that the two engines read differently (^ $ \w \b \h, nested classes, scripts, {n}+,
// ...) are refused: INVALID_ARGUMENT naming construct and offset.
absl::StatusOr<std::string> ToPcre2Pattern(std::string_view pattern);

}  // namespace based

#endif  // BASED_ENGINE_SPLIT_PATTERN_H_
