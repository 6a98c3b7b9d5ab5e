#include "engine/constraint/dfa_bytes.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// Values `first` to `last` lead to the state `target`; of a value, only the bits are left that are
// still to be spelled.
struct Segment {
  uint32_t first;
  uint32_t last;
  int32_t target;
};
using Segments = std::vector<Segment>;

// How the next bits of a value are spelled, and the form of those behind them.
enum Form : int32_t {
  kDone,
  kTail1,
  kTail2,
  kTail3,  // UTF-8 continuation bytes still to come
  kHex1,
  kHex2,
  kHex3,
  kHex4,  // hexadecimal digits still to come
  kHigh1,
  kHigh2,
  kHigh3,  // of a high surrogate: the digits behind \uD, 10 bits
  kBetween1,
  kBetween2,
  kBetween3,  // the "\uD" between the halves of a pair
  kLow1,
  kLow2,
  kLow3,  // of a low surrogate
};

struct Step {
  int bits;  // 0: a fixed byte
  enum Spelling : uint8_t { kNone, kTail, kHex, kFixed } spelling;
  uint8_t base;  // added to the digit; the byte itself where it is fixed
  Form next;
  int bits_behind;  // that are left after this step
};

constexpr std::array<Step, kLow3 + 1> kSteps = {{
    {0, Step::kNone, 0, kDone, 0},
    {6, Step::kTail, 0x80, kDone, 0},
    {6, Step::kTail, 0x80, kTail1, 6},
    {6, Step::kTail, 0x80, kTail2, 12},
    {4, Step::kHex, 0, kDone, 0},
    {4, Step::kHex, 0, kHex1, 4},
    {4, Step::kHex, 0, kHex2, 8},
    {4, Step::kHex, 0, kHex3, 12},
    {2, Step::kHex, 8, kHigh2, 18},
    {4, Step::kHex, 0, kHigh3, 14},
    {4, Step::kHex, 0, kBetween1, 10},
    {0, Step::kFixed, '\\', kBetween2, 10},
    {0, Step::kFixed, 'u', kBetween3, 10},
    {0, Step::kFixed, 'D', kLow1, 10},
    {2, Step::kHex, 12, kLow2, 8},
    {4, Step::kHex, 0, kLow3, 4},
    {4, Step::kHex, 0, kDone, 0},
}};

ByteSet HexDigit(uint32_t digit) {
  ByteSet bytes;
  if (digit < 10) return bytes.set('0' + digit);
  return bytes.set('a' + digit - 10).set('A' + digit - 10);
}

ByteSet Spell(const Step& step, uint32_t digit) {
  switch (step.spelling) {
    case Step::kTail:
      return ByteSet().set(step.base + digit);
    case Step::kHex:
      return HexDigit(step.base + digit);
    default:
      // The letters of \uD may be of either case in the surrogate's first digit only.
      return step.base == 'D' ? HexDigit(13) : ByteSet().set(step.base);
  }
}

// The part of `segments` within first..last, with `first` subtracted.
Segments Cut(const Segments& segments, uint32_t first, uint32_t last) {
  Segments part;
  for (const Segment& segment : segments) {
    if (segment.first > last) break;
    if (segment.last < first) continue;
    part.push_back({std::max(segment.first, first) - first, std::min(segment.last, last) - first,
                    segment.target});
  }
  return part;
}

class Renderer {
 public:
  Renderer(const CharDfa& dfa, DfaSpelling spelling, DfaBudget& budget)
      : dfa_(dfa), spelling_(spelling), budget_(budget) {}

  absl::StatusOr<ByteFsa> Run() {
    fsa_.states.resize(dfa_.size());
    int64_t spent = 0;
    for (int32_t state = 0; state < dfa_.size(); ++state) {
      fsa_.states[state].accepting = dfa_.accepting(state);
      const Segments segments = SegmentsOf(state);
      if (spelling_ == DfaSpelling::kUtf8) {
        Raw(state, segments);
      } else {
        Json(state, segments);
      }
      BASED_RETURN_IF_ERROR(budget_.Spend(static_cast<int64_t>(fsa_.states.size()) - spent));
      spent = static_cast<int64_t>(fsa_.states.size());
    }
    return std::move(fsa_);
  }

 private:
  Segments SegmentsOf(int32_t state) const {
    Segments segments;
    const std::vector<CharDfa::Interval>& intervals = dfa_.intervals();
    const auto add = [&segments](uint32_t first, uint32_t last, int32_t target) {
      if (first > last) return;
      if (!segments.empty() && segments.back().target == target &&
          segments.back().last + 1 == first) {
        segments.back().last = last;
      } else {
        segments.push_back({first, last, target});
      }
    };
    for (size_t i = 0; i < intervals.size(); ++i) {
      const int32_t target = dfa_.Next(state, intervals[i].column);
      if (target == CharDfa::kDead) continue;
      const uint32_t first = intervals[i].first;
      const uint32_t last = i + 1 < intervals.size() ? intervals[i + 1].first - 1 : kLastCodePoint;
      add(first, std::min<uint32_t>(last, 0xD7FF), target);
      add(std::max<uint32_t>(first, 0xE000), last, target);
    }
    return segments;
  }

  void AddEdge(int32_t state, const ByteSet& bytes, int32_t target) {
    for (ByteFsa::Edge& edge : fsa_.states[state].edges) {
      if (edge.target != target) continue;
      edge.bytes |= bytes;
      return;
    }
    fsa_.states[state].edges.push_back({bytes, target});
  }

  // Edges from `state` that spell the digits of `segments` as `step` says.
  void AddDigits(int32_t state, const Step& step, const Segments& segments) {
    const uint32_t width = uint32_t{1} << step.bits_behind;
    for (const Segment& segment : segments) {
      // A digit that several segments share is spelled when the first of them comes.
      uint32_t digit = segment.first / width;
      if (&segment != &segments[0] && (&segment)[-1].last / width == digit) ++digit;
      for (; digit <= segment.last / width; ++digit) {
        const uint32_t first = digit * width;
        AddEdge(state, Spell(step, digit),
                StateOf(step.next, Cut(segments, first, first + width - 1)));
      }
    }
  }

  // The state from which the values of `segments` are spelled in `form`.
  int32_t StateOf(Form form, const Segments& segments) {
    if (form == kDone) return segments[0].target;
    std::string key(1, static_cast<char>(form));
    key.append(reinterpret_cast<const char*>(segments.data()), segments.size() * sizeof(Segment));
    const auto [found, added] = known_.try_emplace(key, fsa_.states.size());
    const int32_t state = found->second;
    if (!added) return state;
    fsa_.states.emplace_back();
    const Step& step = kSteps[form];
    if (step.spelling == Step::kFixed) {
      AddEdge(state, Spell(step, 0), StateOf(step.next, segments));
    } else {
      AddDigits(state, step, segments);
    }
    return state;
  }

  // Characters as their UTF-8.
  void Raw(int32_t state, const Segments& segments) {
    constexpr Step kAscii = {7, Step::kTail, 0, kDone, 0};
    constexpr Step kLead2 = {5, Step::kTail, 0xC0, kTail1, 6};
    constexpr Step kLead3 = {4, Step::kTail, 0xE0, kTail2, 12};
    constexpr Step kLead4 = {3, Step::kTail, 0xF0, kTail3, 18};
    AddDigits(state, kAscii, Cut(segments, 0, 0x7F));
    // Cut subtracts where the length begins; values must stay whole.
    AddDigits(state, kLead2, Between(segments, 0x80, 0x7FF));
    AddDigits(state, kLead3, Between(segments, 0x800, 0xFFFF));
    AddDigits(state, kLead4, Between(segments, 0x10000, kLastCodePoint));
  }

  static Segments Between(const Segments& segments, uint32_t first, uint32_t last) {
    Segments part = Cut(segments, first, last);
    for (Segment& segment : part) {
      segment.first += first;
      segment.last += first;
    }
    return part;
  }

  static Segments Without(const Segments& segments, char character) {
    const auto value = static_cast<uint32_t>(character);
    Segments rest = value == 0 ? Segments() : Between(segments, 0, value - 1);
    const Segments behind = Between(segments, value + 1, kLastCodePoint);
    rest.insert(rest.end(), behind.begin(), behind.end());
    return rest;
  }

  void Json(int32_t state, const Segments& segments) {
    Raw(state, Between(Without(Without(segments, '"'), '\\'), 0x20, kLastCodePoint));
    const bool any = spelling_ == DfaSpelling::kJsonAnyEscape;
    Segments escaped = segments;
    if (!any) {
      escaped = Between(segments, 0, 0x1F);
      const Segments high = Between(segments, 0x7F, kLastCodePoint);
      escaped.insert(escaped.end(), high.begin(), high.end());
    }
    const auto behind = static_cast<int32_t>(fsa_.states.size());
    fsa_.states.emplace_back();
    constexpr std::string_view kEscapes = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    for (size_t i = 0; i < kEscapes.size(); ++i) {
      if (kEscapes[i] == '/' && !any) continue;
      const auto value = static_cast<uint32_t>(kMeanings[i]);
      const Segments one = Cut(segments, value, value);
      if (!one.empty()) {
        AddEdge(behind, ByteSet().set(static_cast<uint8_t>(kEscapes[i])), one[0].target);
      }
    }
    AddUnicodeEscapes(behind, escaped);
    if (fsa_.states[behind].edges.empty()) {
      fsa_.states.pop_back();
    } else {
      AddEdge(state, ByteSet().set('\\'), behind);
    }
  }

  // From the state behind the backslash.
  void AddUnicodeEscapes(int32_t behind, const Segments& segments) {
    const Segments short_ones = Between(segments, 0, 0xFFFF);
    const Segments pairs = Cut(segments, 0x10000, kLastCodePoint);
    if (!short_ones.empty()) {
      AddEdge(behind, ByteSet().set('u'), StateOf(kHex4, short_ones));
    }
    if (pairs.empty()) return;
    const auto first_digit = static_cast<int32_t>(fsa_.states.size());
    fsa_.states.emplace_back();
    AddEdge(behind, ByteSet().set('u'), first_digit);
    AddEdge(first_digit, HexDigit(13), StateOf(kHigh1, pairs));
  }

  const CharDfa& dfa_;
  const DfaSpelling spelling_;
  DfaBudget& budget_;
  ByteFsa fsa_;
  absl::flat_hash_map<std::string, int32_t> known_;
};

}  // namespace

absl::StatusOr<ByteFsa> RenderDfa(const CharDfa& dfa, DfaSpelling spelling, DfaBudget& budget) {
  return Renderer(dfa, spelling, budget).Run();
}

}  // namespace based
