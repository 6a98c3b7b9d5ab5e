#include "engine/jinja/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "engine/unicode_class.h"
#include "engine/utf8.h"

namespace based::jinja {
namespace {

bool IsStart(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; }

size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && !IsStart(text[at])) --at;
  return at;
}

size_t SizeOfFirst(std::string_view text) {
  size_t size = 1;
  while (size < text.size() && !IsStart(text[size])) ++size;
  return size;
}

bool Strips(std::string_view character, std::optional<std::string_view> set) {
  return set ? set->find(character) != std::string_view::npos : IsSpace(FirstCharacter(character));
}

std::vector<std::string_view> SplitAtSpace(std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  text = Strip(text, Side::kLeft);
  while (!text.empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text);  // with what whitespace ends it
      break;
    }
    size_t end = 0;
    while (end < text.size() && !IsSpace(FirstCharacter(text.substr(end)))) {
      end += SizeOfFirst(text.substr(end));
    }
    parts.push_back(text.substr(0, end));
    text = Strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

// Python also takes a position before the first or after the last, and moves it inside.
int64_t Clamp(int64_t position, int64_t size, int64_t low, int64_t high) {
  if (position < 0) position = std::max(position + size, low);
  return std::min(position, high);
}

}  // namespace

bool IsSpace(char32_t character) {
  return based::IsSpace(character) || (character >= 0x1C && character <= 0x1F);
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), IsStart));
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  while (!text.empty()) {
    const size_t size = SizeOfFirst(text);
    characters.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return characters;
}

size_t OffsetOf(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at += SizeOfFirst(text.substr(at));
    --index;
  }
  return at;
}

std::string_view Strip(std::string_view text, Side side, std::optional<std::string_view> set) {
  if (side != Side::kRight) {
    while (!text.empty() && Strips(text.substr(0, SizeOfFirst(text)), set)) {
      text.remove_prefix(SizeOfFirst(text));
    }
  }
  if (side != Side::kLeft) {
    while (!text.empty() && Strips(text.substr(LastCharacter(text)), set)) {
      text = text.substr(0, LastCharacter(text));
    }
  }
  return text;
}

std::vector<std::string_view> Split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t most) {
  if (!separator) return SplitAtSpace(text, most);
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = text.find(*separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> SplitRight(std::string_view text, std::string_view separator,
                                         int64_t most) {
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = text.rfind(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string Replace(std::string_view text, std::string_view old, std::string_view replacement,
                    int64_t most) {
  std::string out;
  size_t done = 0;
  for (int64_t count = 0; most < 0 || count < most; ++count) {
    // Nothing is found before every character, and at the end.
    size_t at = text.find(old, done);
    if (old.empty() && count > 0) {
      if (done >= text.size()) break;
      at = done + SizeOfFirst(text.substr(done));
    }
    if (at == std::string_view::npos) break;
    out.append(text, done, at - done).append(replacement);
    done = at + old.size();
  }
  return out.append(text, done);
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 128; });
}

std::string FloatText(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof(buffer), number, std::chars_format::scientific);
  const std::string text(buffer, scientific.ptr);
  const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), number, std::chars_format::fixed);
  std::string plain(buffer, fixed.ptr);
  return plain.find('.') == std::string::npos ? plain + ".0" : plain;
}

SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> stop,
                        int64_t step) {
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const int64_t first = start ? Clamp(*start, size, low, high) : (step > 0 ? low : high);
  const int64_t last = stop ? Clamp(*stop, size, low, high) : (step > 0 ? high : low);
  const int64_t length = step > 0 ? last - first : first - last;
  if (length <= 0) return {first, 0, step};
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : -static_cast<uint64_t>(step);
  return {first, static_cast<int64_t>((static_cast<uint64_t>(length) - 1) / stride + 1), step};
}

}  // namespace based::jinja
