// GPT-2's printable alphabet: each byte is written as one Unicode character in vocabulary files.
#ifndef BASED_ENGINE_BYTE_ALPHABET_H_
#define BASED_ENGINE_BYTE_ALPHABET_H_

#include <optional>
#include <string>
#include <string_view>

namespace based {

// The bytes that `token` (valid UTF-8) stands for; nullopt if a character is none of the alphabet.
std::optional<std::string> FromByteAlphabet(std::string_view token);

}  // namespace based

#endif  // BASED_ENGINE_BYTE_ALPHABET_H_
