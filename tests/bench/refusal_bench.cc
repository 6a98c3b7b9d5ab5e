// How long a contradictory request takes to be refused: from the message's bytes to the status that
// names the field, in microseconds: the mean, the 99th percentile and the worst of many, which on a
// busy machine is another process's turn. Prints one line for each.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "kernels/base/check.h"
#include "server/convert.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

constexpr int kRuns = 20'000;
constexpr int32_t kVocabulary = 50'257;

class SilentSink final : public TokenSink {
 public:
  void OnStarted(const Started&) override {}
  bool OnDelta(Delta) override { return true; }
  void OnFinished(const Finished&) override {}
  void OnError(const absl::Status&) override {}
};

std::unique_ptr<Engine> MakeEngine() {
  auto model = std::make_unique<Model>();
  model->config.vocab_size = kVocabulary;
  model->executable = std::make_unique<SimExecutable>(SimModel{.vocab_size = kVocabulary});
  auto engine = Engine::Create(std::move(model), {.slots = 16}, nullptr);
  BASED_CHECK(engine.ok());
  return *std::move(engine);
}

absl::Status Answer(const std::string& bytes, Engine& engine,
                    const std::shared_ptr<TokenSink>& sink) {
  v1::GenerateRequest message;
  BASED_CHECK(message.ParseFromString(bytes));
  absl::StatusOr<Request> request = RequestFromProto(message, /*has_tokenizer=*/false);
  if (!request.ok()) return request.status();
  return engine.Submit(*std::move(request), sink).status();
}

void Measure(const std::function<void(v1::GenerateRequest&)>& spoil, Engine& engine) {
  v1::GenerateRequest message;
  message.mutable_token_ids()->add_ids(1);
  spoil(message);
  const std::string bytes = message.SerializeAsString();
  const auto sink = std::make_shared<SilentSink>();
  double total = 0;
  std::vector<double> times;
  absl::Status status;
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    status = Answer(bytes, engine, sink);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    total += took.count();
    times.push_back(took.count());
  }
  BASED_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  std::sort(times.begin(), times.end());
  std::printf("mean_us=%.2f p99_us=%.2f worst_us=%.1f %s\n", total / kRuns, times[kRuns * 99 / 100],
              times.back(), std::string(status.message()).c_str());
}

void MeasureAll() {
  const std::unique_ptr<Engine> engine = MakeEngine();
  using M = v1::GenerateRequest;
  const std::vector<std::function<void(M&)>> spoils = {
      [](M& m) { m.set_n(4), m.set_best_of(3); },
      [](M& m) { m.set_n(17); },
      [](M& m) { m.set_best_of(65); },
      [](M& m) { m.mutable_stop()->set_min_tokens(6), m.mutable_stop()->set_max_tokens(5); },
      [](M& m) { (*m.mutable_sampling()->mutable_logit_bias())[kVocabulary] = 1; },
      [](M& m) {
        for (int32_t id = 1; id < 1024; ++id) {
          (*m.mutable_sampling()->mutable_logit_bias())[id] = 1;
        }
        (*m.mutable_sampling()->mutable_logit_bias())[-1] = 1;
      },
      [](M& m) {
        m.mutable_output()->set_logprobs(true), m.mutable_output()->set_top_logprobs(21);
      },
      [](M& m) {
        for (int32_t id = 0; id < 10'000; ++id) m.mutable_token_ids()->add_ids(id);
        m.mutable_token_ids()->add_ids(kVocabulary);
      },
  };
  for (const auto& spoil : spoils) Measure(spoil, *engine);
}

}  // namespace
}  // namespace based

int main() {
  based::MeasureAll();
  return 0;
}
