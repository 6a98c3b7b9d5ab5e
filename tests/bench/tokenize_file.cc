// Encodes a file with our tokenizer: prints its ids, one per line, or the time it takes.
//   tokenize_file TOKENIZER_DIR FILE            ids
//   tokenize_file TOKENIZER_DIR FILE REPEATS    seconds of each of REPEATS encodings, one per line
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/tokenizer.h"

namespace {

int Fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return Fail("usage: tokenize_file TOKENIZER_DIR FILE [REPEATS]");
  const auto tokenizer = based::Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) return Fail(tokenizer.status().ToString());
  std::ifstream file(argv[2], std::ios::binary);
  if (!file) return Fail(std::string(argv[2]) + ": cannot be read");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const int repeats = argc == 4 ? std::atoi(argv[3]) : 1;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto ids = (*tokenizer)->Encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (!ids.ok()) return Fail(ids.status().ToString());
    if (argc == 4) {
      std::printf("%.6f\n", seconds.count());
    } else {
      for (const int32_t id : *ids) std::printf("%d\n", id);
    }
  }
  return 0;
}
