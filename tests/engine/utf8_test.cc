#include "engine/utf8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace based {
namespace {

// All well-formed sequences, made by encoding every scalar value: an oracle without range tables.
// A prefix of one that is not complete is what may still become a character.
class Oracle {
 public:
  Oracle() {
    for (char32_t c = 0; c <= 0x10FFFF; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      std::string text;
      AppendUtf8(c, &text);
      for (size_t n = 1; n < text.size(); ++n) Mark(text.substr(0, n), kPrefix);
      Mark(text, kCharacter);
    }
  }

  // decode(errors="replace"): `final` says that nothing follows.
  std::string Decode(std::string_view bytes) const {
    std::string out;
    while (!bytes.empty()) {
      size_t size = 1;
      while (size < bytes.size() && Of(bytes.substr(0, size)) == kPrefix &&
             Of(bytes.substr(0, size + 1)) != kNeither) {
        ++size;
      }
      const bool character = Of(bytes.substr(0, size)) == kCharacter;
      out.append(character ? bytes.substr(0, size) : "\xEF\xBF\xBD");
      bytes.remove_prefix(size);
    }
    return out;
  }

  size_t FirstInvalid(std::string_view bytes) const {
    for (size_t offset = 0; offset < bytes.size();) {
      size_t size = 1;
      while (size <= 4 && Of(bytes.substr(offset, size)) != kCharacter) ++size;
      if (size > 4) return offset;
      offset += size;
    }
    return std::string_view::npos;
  }

 private:
  enum Kind : uint8_t { kNeither, kPrefix, kCharacter };

  // Sequences of up to three bytes are looked up by value, of four by their first three: which
  // fourth byte may follow is the same for all (80..BF).
  static size_t Index(std::string_view bytes) {
    size_t index = 0;
    for (const char byte : bytes.substr(0, 3)) index = index << 8 | static_cast<uint8_t>(byte);
    return index + std::min<size_t>(bytes.size(), 3) * (size_t{1} << 24);
  }
  void Mark(std::string_view bytes, Kind kind) {
    if (bytes.size() < 4) kinds_[Index(bytes)] = kind;
  }
  Kind Of(std::string_view bytes) const {
    if (bytes.empty() || bytes.size() > 4) return kNeither;
    if (bytes.size() < 4) return kinds_[Index(bytes)];
    const bool continues = (static_cast<uint8_t>(bytes[3]) & 0xC0) == 0x80;
    return kinds_[Index(bytes)] == kPrefix && continues ? kCharacter : kNeither;
  }

  std::vector<Kind> kinds_ = std::vector<Kind>(size_t{4} << 24, kNeither);
};

const Oracle& TheOracle() {
  static const Oracle oracle;
  return oracle;
}

std::string Stream(std::string_view bytes, uint32_t cuts) {
  Utf8Stream stream;
  std::string out;
  size_t begin = 0;
  for (size_t i = 1; i < bytes.size(); ++i) {
    if ((cuts >> (i - 1) & 1) == 0) continue;
    out += stream.Push(bytes.substr(begin, i - begin));
    begin = i;
  }
  out += stream.Push(bytes.substr(begin));
  return out + stream.Finish();
}

TEST(Utf8StreamTest, EqualsPythonOnKnownCases) {
  // Written by bytes.decode("utf-8", "replace").encode() of CPython.
  const std::pair<std::string, std::string> cases[] = {
      {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
      {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
      {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xC3\x28", "\xEF\xBF\xBD("},
      {"\xE2\x82\x41",
       "\xEF\xBF\xBD"
       "A"},
      {"\xF0\x9F\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC"},
      {"\xFF\x80"
       "a\xC0",
       "\xEF\xBF\xBD\xEF\xBF\xBD"
       "a\xEF\xBF\xBD"},
  };
  for (const auto& [bytes, expected] : cases) {
    for (uint32_t cuts = 0; cuts < 1u << (bytes.size() - 1); ++cuts) {
      EXPECT_EQ(Stream(bytes, cuts), expected) << testing::PrintToString(bytes) << " " << cuts;
    }
  }
}

// Bytes at the edges of every range in the definition of UTF-8.
constexpr uint8_t kEdges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                              0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                              0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};

TEST(Utf8StreamTest, EveryEdgeSequenceOfFourBytesCutEverywhere) {
  for (const uint8_t a : kEdges) {
    for (const uint8_t b : kEdges) {
      for (const uint8_t c : kEdges) {
        for (const uint8_t d : kEdges) {
          const uint8_t raw[] = {a, b, c, d};
          const std::string bytes(std::begin(raw), std::end(raw));
          const std::string expected = TheOracle().Decode(bytes);
          for (uint32_t cuts = 0; cuts < 8; ++cuts) ASSERT_EQ(Stream(bytes, cuts), expected);
          ASSERT_EQ(FindInvalidUtf8(bytes), TheOracle().FirstInvalid(bytes));
        }
      }
    }
  }
}

TEST(Utf8StreamTest, RandomBytesRandomlyCut) {
  std::mt19937 rng(7);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const size_t size = 1 + rng() % 30;
    while (bytes.size() < size) {
      if (rng() % 2 == 0) {
        AppendUtf8(static_cast<char32_t>(rng() % 0xD800), &bytes);
      } else {
        bytes.push_back(static_cast<char>(kEdges[rng() % std::size(kEdges)]));
      }
    }
    ASSERT_EQ(Stream(bytes, static_cast<uint32_t>(rng())), TheOracle().Decode(bytes))
        << testing::PrintToString(bytes);
    ASSERT_EQ(FindInvalidUtf8(bytes), TheOracle().FirstInvalid(bytes));
  }
}

TEST(Utf8StreamTest, CharacterComesWithItsLastByte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xE2"), "a");
  EXPECT_EQ(stream.Push("\x82"), "");
  EXPECT_EQ(stream.Push("\xAC"
                        "b"),
            "\xE2\x82\xAC"
            "b");
  EXPECT_EQ(stream.Finish(), "");
  EXPECT_EQ(stream.Push("\xF0"), "");
  EXPECT_EQ(stream.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(FindInvalidUtf8Test, OffsetOfTheBrokenCharacter) {
  EXPECT_EQ(FindInvalidUtf8(""), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("plain ASCII, more than one word of it"), std::string_view::npos);
  for (size_t before = 0; before < 20; ++before) {
    const std::string text(before, 'x');
    EXPECT_EQ(FindInvalidUtf8(text + "\xE2\x82\xAC" + text), std::string_view::npos);
    EXPECT_EQ(FindInvalidUtf8(text + "\xE2\x82" + text), before);
    EXPECT_EQ(FindInvalidUtf8(text + "\x80" + text), before);
  }
}

TEST(FirstCharacterTest, InvertsAppendUtf8) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(FirstCharacter(text), c);
    ASSERT_EQ(ClassifyUtf8(text).kind, Utf8Prefix::kCharacter);
    ASSERT_EQ(ClassifyUtf8(text).size, text.size());
  }
}

}  // namespace
}  // namespace based
