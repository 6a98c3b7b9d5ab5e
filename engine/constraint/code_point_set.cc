#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/constraint/code_point_set.h"

#include <pcre2.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/split_pattern.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "kernels/base/mutex.h"

namespace based {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;

constexpr std::string_view kCategories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};

// Every code point that may be in a category, once and in order: planes 4 to 13, 15 and 16 have no
// characters of Unicode.
std::string AllAsUtf8() {
  constexpr CodePointRange kPlanes[] = {
      {0, kFirstSurrogate - 1}, {kLastSurrogate + 1, 0x3FFFF}, {0xE0000, 0xEFFFF}};
  std::string text;
  for (const CodePointRange& range : kPlanes) {
    for (char32_t c = range.first; c <= range.last; ++c) AppendUtf8(c, &text);
  }
  return text;
}

char32_t LastCharacter(std::string_view text) {
  size_t start = text.size() - 1;
  while ((static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  return FirstCharacter(text.substr(start));
}

// What PCRE2's tables lack of a category, from the class that split_pattern.h makes of it:
// [\p{..}\x{first}-\x{last}...].
std::vector<CodePointRange> RangesIn(std::string_view pattern) {
  constexpr std::string_view kStart = "\\x{";
  std::vector<char32_t> ends;
  for (size_t at = pattern.find(kStart); at != std::string_view::npos;
       at = pattern.find(kStart, at + 1)) {
    uint32_t value = 0;
    std::from_chars(pattern.data() + at + kStart.size(), pattern.data() + pattern.size(), value,
                    16);
    ends.push_back(value);
  }
  std::vector<CodePointRange> ranges;
  for (size_t i = 0; i + 1 < ends.size(); i += 2) ranges.push_back({ends[i], ends[i + 1]});
  return ranges;
}

// The runs of members in the text of all code points.
CodePointSet ScanCategory(const std::string& name) {
  const std::string category = absl::StrCat("\\p{", name, "}");
  const auto pattern = ToPcre2Pattern(category);
  BASED_CHECK(pattern.ok());
  const std::string runs = absl::StrCat(category, "++");
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(runs.data()), runs.size(), PCRE2_UTF | PCRE2_UCP,
                    &error, &offset, nullptr),
      &pcre2_code_free);
  BASED_CHECK(code != nullptr);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const std::string text = AllAsUtf8();
  std::vector<CodePointRange> ranges = RangesIn(*pattern);
  PCRE2_SIZE at = 0;
  while (pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                     PCRE2_NO_UTF_CHECK, match.get(), nullptr) > 0) {
    const PCRE2_SIZE* const found = pcre2_get_ovector_pointer(match.get());
    const std::string_view run = std::string_view(text).substr(found[0], found[1] - found[0]);
    ranges.push_back({FirstCharacter(run), LastCharacter(run)});
    at = found[1];
  }
  return UnionOf(std::move(ranges));
}

}  // namespace

CodePointSet UnionOf(std::vector<CodePointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodePointRange& a, const CodePointRange& b) { return a.first < b.first; });
  CodePointSet result;
  const auto add = [&result](char32_t first, char32_t last) {
    if (first > last) return;
    if (!result.empty() && first <= result.back().last + 1) {
      result.back().last = std::max(result.back().last, last);
    } else {
      result.push_back({first, last});
    }
  };
  for (const CodePointRange& range : ranges) {
    const char32_t last = std::min(range.last, kLastCodePoint);
    add(range.first, std::min<char32_t>(last, kFirstSurrogate - 1));
    add(std::max<char32_t>(range.first, kLastSurrogate + 1), last);
  }
  return result;
}

CodePointSet Negate(const CodePointSet& set) {
  std::vector<CodePointRange> gaps;
  char32_t next = 0;
  for (const CodePointRange& range : set) {
    if (range.first > next) gaps.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  gaps.push_back({next, kLastCodePoint});
  return UnionOf(std::move(gaps));
}

CodePointSet Digits() { return {{'0', '9'}}; }

CodePointSet WordCharacters() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }

CodePointSet Spaces() {
  return {{0x09, 0x0D},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}

CodePointSet Dot() { return Negate({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}); }

std::optional<CodePointSet> CategoryMembers(std::string_view name) {
  if (std::find(std::begin(kCategories), std::end(kCategories), name) == std::end(kCategories)) {
    return std::nullopt;
  }
  static Mutex mutex;
  static std::map<std::string, CodePointSet, std::less<>> known;
  const MutexLock lock(mutex);
  auto found = known.find(name);
  if (found == known.end()) found = known.emplace(name, ScanCategory(std::string(name))).first;
  return found->second;
}

}  // namespace based
