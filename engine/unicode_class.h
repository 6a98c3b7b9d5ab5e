// Character classes as Hugging Face's added-token rules use them (Rust's regex crate).
#ifndef BASED_ENGINE_UNICODE_CLASS_H_
#define BASED_ENGINE_UNICODE_CLASS_H_

namespace based {

// \s: the Unicode property White_Space.
bool IsSpace(char32_t character);

// \w: Alphabetic, marks, decimal digits, connector punctuation, join controls.
bool IsWordCharacter(char32_t character);

}  // namespace based

#endif  // BASED_ENGINE_UNICODE_CLASS_H_
