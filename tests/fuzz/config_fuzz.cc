// config.json: any text is a configuration within its limits, or INVALID_ARGUMENT with the path.
#include <string>
#include <string_view>

#include "engine/model_config.h"
#include "kernels/base/check.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  const absl::StatusOr<ModelConfig> config =
      ParseModelConfig(FuzzInput(data, size).Rest(), "config.json");
  if (!config.ok()) {
    BASED_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
    BASED_CHECK(config.status().message().substr(0, 11) == "config.json");
    return 0;
  }
  BASED_CHECK(config->d_model >= 1 && config->d_model <= kMaxModelWidth);
  BASED_CHECK(!config->layers.empty() && config->layers.size() <= size_t{kMaxLayers});
  BASED_CHECK(config->vocab_size >= 1 && config->vocab_size <= config->padded_vocab_size);
  BASED_CHECK(config->padded_vocab_size <= kMaxVocabulary);
  BASED_CHECK(config->bos_token_id < config->vocab_size);
  BASED_CHECK(config->eos_token_id < config->vocab_size);
  BASED_CHECK(config->norm_eps >= 0 && config->norm_eps <= 1);
  BASED_CHECK(config->linear_eps >= 0 && config->linear_eps <= 1e-3);
  BASED_CHECK(config->rope_base >= 1 && config->rope_base <= 1e12);
  for (const Mixer mixer : config->layers) {
    BASED_CHECK(mixer != Mixer::kLinearAttention ||
                (config->linear_heads >= 1 && config->feature_dim >= 1));
    BASED_CHECK(mixer != Mixer::kSlidingWindow ||
                (config->window_heads >= 1 && config->window_size >= 1));
  }
  return 0;
}
