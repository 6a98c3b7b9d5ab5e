// Utf8Stream and StopMatcher: whatever the bytes and however they are cut into pieces, the text
// that comes out is valid UTF-8 and stops where a search over the whole text says.
//
// Input: a byte with the number of stop strings (0 to 3), each as a length byte (0 to 15) and its
// bytes, then a byte that seeds the cuts, then the stream.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/stop_matcher.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

// Lengths of the pieces that `size` bytes are cut into: 0 to 7 each, from a small generator.
std::vector<size_t> Cuts(size_t size, uint32_t seed) {
  std::vector<size_t> lengths;
  while (size > 0) {
    seed = seed * 1664525 + 1013904223;
    lengths.push_back(std::min<size_t>(size, seed >> 29));
    size -= lengths.back();
  }
  return lengths;
}

std::string Decode(std::string_view bytes, const std::vector<size_t>& cuts) {
  Utf8Stream stream;
  std::string text;
  for (const size_t length : cuts) {
    text += stream.Push(bytes.substr(0, length));
    bytes.remove_prefix(length);
    BASED_CHECK(FindInvalidUtf8(text) == std::string_view::npos);
  }
  return text + stream.Finish();
}

struct Stopped {
  std::string text;  // before the stop string
  std::optional<std::string> matched;
  bool operator==(const Stopped&) const = default;
};

// The definition, byte by byte: the first end of an occurrence; of several there the longest.
Stopped SearchWhole(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view seen = std::string_view(text).substr(0, end);
    const std::string* longest = nullptr;
    for (const std::string& stop : stops) {
      if (stop.empty() || !seen.ends_with(stop)) continue;
      if (longest == nullptr || stop.size() > longest->size()) longest = &stop;
    }
    if (longest != nullptr) return {text.substr(0, end - longest->size()), *longest};
  }
  return {text, std::nullopt};
}

Stopped SearchPieces(std::string_view text, const std::vector<std::string>& stops,
                     const std::vector<size_t>& cuts) {
  StopMatcher matcher(stops);
  Stopped result;
  for (const size_t length : cuts) {
    StopMatcher::Emit emit = matcher.Push(text.substr(0, length));
    text.remove_prefix(length);
    BASED_CHECK(!result.matched || (emit.text.empty() && !emit.matched));
    result.text += emit.text;
    if (emit.matched) result.matched = std::move(emit.matched);
  }
  const std::string rest = matcher.Finish();
  BASED_CHECK(!result.matched || rest.empty());
  result.text += rest;
  return result;
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  FuzzInput input(data, size);
  std::vector<std::string> stops(input.Byte() % 4);
  for (std::string& stop : stops) stop = std::string(input.Take(input.Byte() % 16));
  const uint32_t seed = input.Byte();
  const std::string_view bytes = input.Rest();

  const std::string text = Decode(bytes, {bytes.size()});
  BASED_CHECK(FindInvalidUtf8(text) == std::string_view::npos);
  BASED_CHECK(Decode(bytes, Cuts(bytes.size(), seed)) == text);
  const bool valid = FindInvalidUtf8(bytes) == std::string_view::npos;
  BASED_CHECK(!valid || text == bytes);
  BASED_CHECK(SearchPieces(text, stops, Cuts(text.size(), seed)) == SearchWhole(text, stops));
  return 0;
}
