// Log-likelihood of text under a model in this process.
#include <algorithm>
#include <utility>

#include "client/local.h"
#include "client/logits_runner.h"
#include "kernels/base/status.h"

namespace based {
namespace {

class LocalScorer final : public TextScorer {
 public:
  LocalScorer(LocalModel local, const LogitsRunner& runner)
      : local_(std::move(local)), runner_(runner) {}

  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) override {
    return local_.model->tokenizer->Encode(text);
  }

  absl::StatusOr<double> LogProbability(absl::Span<const int32_t> ids, int32_t window) override {
    const auto width = static_cast<size_t>(window);
    double log_probability = 0;
    std::vector<int32_t> inputs;
    for (size_t start = 0; start < ids.size(); start += width) {
      const auto targets = ids.subspan(start, width);
      inputs.assign(1, local_.model->config.eos_token_id);
      inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
      BASED_RETURN_IF_ERROR(runner_.Reset());
      BASED_ASSIGN_OR_RETURN(const double sum, runner_.LogProbability(inputs, targets));
      log_probability += sum;
    }
    return log_probability;
  }

 private:
  LocalModel local_;
  LogitsRunner runner_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextScorer>> ScoreHere(const BackendFactory& new_backend,
                                                      int32_t window) {
  BASED_ASSIGN_OR_RETURN(
      LocalModel local,
      LoadLocalModel(new_backend, {.max_rows = window, .max_spans = 1, .max_samples = window}));
  const Model& model = *local.model;
  if (model.tokenizer == nullptr) {
    return absl::FailedPreconditionError("the model has no tokenizer; expected --tokenizer DIR");
  }
  if (model.config.eos_token_id < 0) {
    return absl::FailedPreconditionError(
        "the model has no end-of-text token to start windows with");
  }
  BASED_ASSIGN_OR_RETURN(const LogitsRunner runner, LogitsRunner::Create(*model.executable));
  return std::make_unique<LocalScorer>(std::move(local), runner);
}

}  // namespace based
