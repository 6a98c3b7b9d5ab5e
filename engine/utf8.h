// UTF-8 as the wire needs it: validation of what comes in, whole characters of what goes out.
#ifndef BASED_ENGINE_UTF8_H_
#define BASED_ENGINE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace based {

// Turns ids into text as they come. Feed bytes; take what is complete UTF-8. Bytes that can never
// become a character are replaced by U+FFFD, one per maximal ill-formed subsequence (Unicode 15,
// section 3.9), as Python's decode(errors="replace") does.
class Utf8Stream {
 public:
  std::string Push(std::string_view bytes);  // complete characters so far
  std::string Finish();                      // U+FFFD if a character was left incomplete

 private:
  std::string pending_;  // at most 3 bytes
};

// Offset of the first byte that is not valid UTF-8, or npos. Surrogates, overlong forms and code
// points above U+10FFFF are not valid. For a broken sequence it is the offset of its first byte.
size_t FindInvalidUtf8(std::string_view text);

// What the bytes at the front of `text` (not empty) are.
struct Utf8Prefix {
  enum Kind : uint8_t { kCharacter, kIncomplete, kIllFormed };
  Kind kind;
  uint8_t size;  // bytes of the character, or of the maximal (incomplete or ill-formed) subsequence
};
Utf8Prefix ClassifyUtf8(std::string_view text);

// The character at the front of valid, non-empty UTF-8.
char32_t FirstCharacter(std::string_view text);

// Appends `character` (a Unicode scalar value) as UTF-8.
void AppendUtf8(char32_t character, std::string* out);

}  // namespace based

#endif  // BASED_ENGINE_UTF8_H_
