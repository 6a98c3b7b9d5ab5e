#include "engine/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "engine/utf8.h"

namespace based {
namespace {

// Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 onwards, in byte order.
bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kAlphabetSize = 256 + 68;

std::array<int16_t, kAlphabetSize> MakeByteOfCharacter() {
  std::array<int16_t, kAlphabetSize> byte_of;
  byte_of.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    byte_of[StandsForItself(byte) ? byte : next++] = static_cast<int16_t>(byte);
  }
  return byte_of;
}

}  // namespace

std::optional<std::string> FromByteAlphabet(std::string_view token) {
  static const std::array<int16_t, kAlphabetSize> byte_of = MakeByteOfCharacter();
  std::string bytes;
  while (!token.empty()) {
    const char32_t character = FirstCharacter(token);
    if (character >= kAlphabetSize || byte_of[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of[character]));
    token.remove_prefix(ClassifyUtf8(token).size);
  }
  return bytes;
}

}  // namespace based
