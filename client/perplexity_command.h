// based perplexity: bits per byte of a text under a model, a daemon's or one in this process.
#ifndef BASED_CLIENT_PERPLEXITY_COMMAND_H_
#define BASED_CLIENT_PERPLEXITY_COMMAND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/command.h"

namespace based {

// A model with a tokenizer and an end-of-text token.
class TextScorer {
 public:
  virtual ~TextScorer() = default;
  virtual absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) = 0;
  // ln p(ids), every `window` of them afresh after end-of-text alone.
  virtual absl::StatusOr<double> LogProbability(absl::Span<const int32_t> ids, int32_t window) = 0;
};

using TextScorerFactory =
    std::function<absl::StatusOr<std::unique_ptr<TextScorer>>(int32_t window)>;

// `daemon` is for --address.
Command PerplexityCommand(TextScorerFactory daemon, TextScorerFactory here);

}  // namespace based

#endif  // BASED_CLIENT_PERPLEXITY_COMMAND_H_
