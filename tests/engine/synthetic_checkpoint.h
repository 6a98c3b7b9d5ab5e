// Random checkpoints of any shape in the published dialect, for tests: a directory with config.json
// and model.safetensors (or shards). Equal shape, seed and options give equal weights.
#ifndef BASED_TESTS_ENGINE_SYNTHETIC_CHECKPOINT_H_
#define BASED_TESTS_ENGINE_SYNTHETIC_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace based {

struct SyntheticShape {
  int d_model = 32;
  std::string layers = "clw";  // one letter each: c BaseConv, l LinearAttention, w SlidingAttention
  int n_head = 4;
  int linear_heads = 4;
  int feature_dim = 16;
  int linear_head_dim = 0;  // 0: d_model / linear_heads
  int window_heads = 4;
  int window_size = 8;
  int conv_channels = 64;
  int conv_kernel = 3;
  bool conv_bias = true;
  int mlp_inner = 48;
  int vocab_size = 61;
  int pad_vocab_size_multiple = 8;

  int padded_vocab_size() const;
  int64_t parameters() const;
};

struct RawTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

// What is about to be written; tests damage it at will.
struct SyntheticFiles {
  nlohmann::json config;
  std::map<std::string, RawTensor> tensors;
};

struct SyntheticOptions {
  std::string dtype = "F32";  // or "F16", "BF16"
  int shards = 1;             // above 1: model-0000i-of-0000n.safetensors and an index
  std::string prefix{};       // before every tensor name, e.g. "model."
  bool embedding = true;      // write word_embeddings.weight
  bool lm_head = false;       // write lm_head.weight
  bool extras = false;        // add metrics, decay and inv_freq tensors, which a reader drops
  std::function<void(SyntheticFiles&)> edit{};  // last change before writing
};

// Weights scaled so that activations stay of order 1; norm weights near 1.
SyntheticFiles MakeCheckpoint(const SyntheticShape& shape, uint64_t seed,
                              const SyntheticOptions& options = {});

// Writes into `dir`, which is made if missing. Aborts when the file system refuses.
void WriteCheckpoint(const std::string& dir, const SyntheticShape& shape, uint64_t seed,
                     const SyntheticOptions& options = {});

// A fresh directory under the test's temporary directory.
std::string NewTestDir();

void WriteFile(const std::string& path, const std::string& content);
std::string ReadFile(const std::string& path);

}  // namespace based

#endif  // BASED_TESTS_ENGINE_SYNTHETIC_CHECKPOINT_H_
