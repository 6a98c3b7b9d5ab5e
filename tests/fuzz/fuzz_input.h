// Reads a fuzzer's bytes from the front. Past the end everything is zero or empty, so that every
// input means something.
#ifndef BASED_TESTS_FUZZ_FUZZ_INPUT_H_
#define BASED_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace based {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  uint8_t Byte() {
    const std::string_view byte = Take(1);
    return byte.empty() ? uint8_t{0} : static_cast<uint8_t>(byte[0]);
  }

  // At most `size` bytes.
  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }

  // Up to the next `separator`, which is dropped; everything where there is none.
  std::string_view TakeUntil(char separator) {
    const std::string_view taken = Take(rest_.find(separator));
    if (!rest_.empty()) rest_.remove_prefix(1);
    return taken;
  }

  std::string_view Rest() { return Take(rest_.size()); }

 private:
  std::string_view rest_;
};

}  // namespace based

#endif  // BASED_TESTS_FUZZ_FUZZ_INPUT_H_
