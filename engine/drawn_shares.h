// Which part of max_tokens completions draw, lately: a histogram that forgets the old ones.
#ifndef BASED_ENGINE_DRAWN_SHARES_H_
#define BASED_ENGINE_DRAWN_SHARES_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace based {

class DrawnShares {
 public:
  // A completion that has ended with `drawn` of `most` (at least 1) tokens.
  void Add(int64_t drawn, int64_t most);

  // Tokens that a completion with `drawn` of `most` will still draw: as those that drew as much did
  // that now are at `quantile`, in [0, 1], of them. One that has outlived all others may end at any
  // time. All there are left while nothing has ended.
  double Left(int64_t drawn, int64_t most, double quantile) const;

 private:
  static constexpr size_t kBins = 40;

  // Where bin i begins: in steps of a quarter of an octave, as many ask for a hundred times of what
  // they draw. The first begins at 0; the last is of those that drew all.
  static double Begin(size_t bin);
  static size_t BinOf(double share);

  // Weights of the bins, and of all before bin i.
  std::array<double, kBins + 1> weights_{};
  std::array<double, kBins + 2> before_{};
};

}  // namespace based

#endif  // BASED_ENGINE_DRAWN_SHARES_H_
