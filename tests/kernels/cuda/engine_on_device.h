// An engine over a small random model on the GPU, for tests of faults.
#ifndef BASED_TESTS_KERNELS_CUDA_ENGINE_ON_DEVICE_H_
#define BASED_TESTS_KERNELS_CUDA_ENGINE_ON_DEVICE_H_

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cpu/synthetic_model.h"

namespace based {

// The id kPoison is in no vocabulary that draws, and its embedding is not a number.
inline constexpr int32_t kVocabulary = 61;
inline constexpr int32_t kPoison = kVocabulary;

class EngineOnDevice {
 public:
  explicit EngineOnDevice(std::unique_ptr<Backend> backend)
      : synthetic_({.layers = "clwlw",
                    .width = 256,
                    .window_left = 128,
                    .vocab = kVocabulary,
                    .dtype = DType::kBF16,
                    .seed = 7}),
        program_(synthetic_.program()),
        backend_(std::move(backend)) {
    program_.spare_tokens = 1;
    EmbedOp& embed = std::get<EmbedOp>(program_.ops.front());
    WeightView table = program_.weights[static_cast<size_t>(embed.table)];
    const size_t row_bytes = static_cast<size_t>(table.cols) * 2;
    poisoned_.resize(static_cast<size_t>(table.rows) * row_bytes);
    std::memcpy(poisoned_.data(), table.data, poisoned_.size());
    std::memset(poisoned_.data() + kPoison * row_bytes, 0xFF, row_bytes);
    table.name = "poisoned";
    table.data = poisoned_.data();
    program_.weights.push_back(table);
    embed.table = static_cast<WeightId>(program_.weights.size() - 1);
  }

  absl::StatusOr<std::unique_ptr<Engine>> Start(const EngineOptions& options) {
    auto model = std::make_unique<Model>();
    model->name = "random";
    model->config.vocab_size = kVocabulary + 1;
    model->config.bos_token_id = 0;
    model->config.eos_token_id = -1;
    model->compile = {.max_rows = 512, .max_spans = 32, .max_samples = 32};
    auto executable = backend_->Compile(program_, model->compile);
    if (!executable.ok()) return executable.status();
    model->executable = *std::move(executable);
    return Engine::Create(std::move(model), options, nullptr);
  }

 private:
  SyntheticModel synthetic_;
  Program program_;
  std::vector<std::byte> poisoned_;
  std::unique_ptr<Backend> backend_;
};

inline Request IdsRequest(std::vector<int32_t> ids, int64_t max_tokens) {
  Request request;
  request.prompt_is_text = false;
  request.prompt_token_ids = std::move(ids);
  request.stop.max_tokens = max_tokens;
  request.sampling.seed = 7;
  request.output = {.text = false, .token_ids = true};
  return request;
}

}  // namespace based

#endif  // BASED_TESTS_KERNELS_CUDA_ENGINE_ON_DEVICE_H_
