#include "engine/utf8.h"

#include <algorithm>
#include <cstring>

namespace based {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// A lead byte's sequence length and the range of its second byte (Unicode 15, table 3-7). Only
// the second byte has a range of its own; later ones are 80..BF.
struct Lead {
  uint8_t size;  // 0: never starts a character
  uint8_t low;
  uint8_t high;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Length of the ASCII prefix, rounded down to whole words.
size_t AsciiWords(std::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  size_t offset = 0;
  for (; offset + sizeof(uint64_t) <= text.size(); offset += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, text.data() + offset, sizeof(word));
    if ((word & kHighBits) != 0) break;
  }
  return offset;
}

}  // namespace

Utf8Prefix ClassifyUtf8(std::string_view text) {
  const Lead lead = LeadOf(static_cast<uint8_t>(text[0]));
  if (lead.size == 0) return {Utf8Prefix::kIllFormed, 1};
  const uint8_t present = static_cast<uint8_t>(std::min<size_t>(lead.size, text.size()));
  for (uint8_t i = 1; i < present; ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {Utf8Prefix::kIllFormed, i};
  }
  if (present < lead.size) return {Utf8Prefix::kIncomplete, present};
  return {Utf8Prefix::kCharacter, lead.size};
}

size_t FindInvalidUtf8(std::string_view text) {
  size_t offset = 0;
  while (offset < text.size()) {
    if (const size_t ascii = AsciiWords(text.substr(offset)); ascii != 0) {
      offset += ascii;
      continue;
    }
    const Utf8Prefix prefix = ClassifyUtf8(text.substr(offset));
    if (prefix.kind != Utf8Prefix::kCharacter) return offset;
    offset += prefix.size;
  }
  return std::string_view::npos;
}

std::string Utf8Stream::Push(std::string_view bytes) {
  std::string out;
  pending_.append(bytes);
  size_t offset = 0;
  while (offset < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(offset);
    const Utf8Prefix prefix = ClassifyUtf8(rest);
    if (prefix.kind == Utf8Prefix::kIncomplete) break;
    out.append(prefix.kind == Utf8Prefix::kCharacter ? rest.substr(0, prefix.size) : kReplacement);
    offset += prefix.size;
  }
  pending_.erase(0, offset);
  return out;
}

std::string Utf8Stream::Finish() {
  // What is pending is one incomplete character: a single maximal subsequence.
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return std::string(incomplete ? kReplacement : std::string_view());
}

char32_t FirstCharacter(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return (lead & 0x1F) << 6 | (byte(1) & 0x3F);
  if (lead < 0xF0) return (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  return (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
}

void AppendUtf8(char32_t character, std::string* out) {
  const auto push = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    push(character);
    return;
  }
  if (character < 0x800) {
    push(0xC0 | character >> 6);
  } else {
    if (character < 0x10000) {
      push(0xE0 | character >> 12);
    } else {
      push(0xF0 | character >> 18);
      push(0x80 | (character >> 12 & 0x3F));
    }
    push(0x80 | (character >> 6 & 0x3F));
  }
  push(0x80 | (character & 0x3F));
}

}  // namespace based
