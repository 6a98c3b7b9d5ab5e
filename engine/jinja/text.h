// Python's str methods over valid UTF-8. Positions and lengths are in characters.
#ifndef BASED_ENGINE_JINJA_TEXT_H_
#define BASED_ENGINE_JINJA_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace based::jinja {

// str.isspace() of a character.
bool IsSpace(char32_t character);

size_t CountCharacters(std::string_view text);
std::vector<std::string_view> Characters(std::string_view text);
// The byte where character `index` begins; text.size() past the last.
size_t OffsetOf(std::string_view text, size_t index);

enum class Side : uint8_t { kLeft, kRight, kBoth };
// Without the characters of `set` at its ends; nullopt: without whitespace.
std::string_view Strip(std::string_view text, Side side, std::optional<std::string_view> set = {});

// At most `most` cuts; negative: all. `separator` is not empty; nullopt: at runs of whitespace.
std::vector<std::string_view> Split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t most);
// The same from the right, with a separator.
std::vector<std::string_view> SplitRight(std::string_view text, std::string_view separator,
                                         int64_t most);

// The first `most` places of `old` by `replacement`; negative: all.
std::string Replace(std::string_view text, std::string_view old, std::string_view replacement,
                    int64_t most);

bool IsAscii(std::string_view text);

// float.__repr__.
std::string FloatText(double number);

// A slice of a sequence of `size`, as Python resolves it.
struct SliceRange {
  int64_t start;
  int64_t count;
  int64_t step;
};
// REQUIRES: step != 0.
SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> stop,
                        int64_t step);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_TEXT_H_
