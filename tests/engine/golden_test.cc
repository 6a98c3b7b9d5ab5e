// The golden fixtures through a whole model: checkpoint, Program, backend. Logits and greedy ids
// must equal those of the published modules however a sequence is cut into spans.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"

namespace based {
namespace {

struct BackendCase {
  const char* name;
  std::unique_ptr<Backend> (*make)();
  double tolerance;  // of ||logits - golden|| / ||golden||
};

std::unique_ptr<Backend> NewCpu() { return NewCpuBackend({.threads = 2}); }

template <typename T>
std::vector<T> Values(const SafetensorsFile& file, const std::string& name) {
  const Tensor& tensor = file.tensors().at(name);
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

class GoldenTest : public testing::TestWithParam<std::tuple<BackendCase, const char*>> {
 protected:
  void SetUp() override {
    const auto& [backend_case, fixture] = GetParam();
    const std::string dir = std::string(BASED_SOURCE_DIR "/tests/golden/") + fixture;
    backend_ = backend_case.make();
    auto config = LoadModelConfig(dir + "/config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    auto checkpoint = LoadCheckpoint(dir, *config);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    auto executable = backend_->Compile(checkpoint_.program, {.max_rows = 256, .max_samples = 256});
    ASSERT_TRUE(executable.ok()) << executable.status();
    executable_ = *std::move(executable);
    ASSERT_TRUE(executable_->CreateSlots(2).ok());
    auto golden = SafetensorsFile::Open(dir + "/golden.safetensors");
    ASSERT_TRUE(golden.ok()) << golden.status();
    length_ = golden->tensors().at("input_ids").shape[1];
    vocabulary_ = golden->tensors().at("logits").shape[2];
    input_ids_ = Values<int32_t>(*golden, "input_ids");
    logits_ = Values<float>(*golden, "logits");
    greedy_ids_ = Values<int32_t>(*golden, "greedy_ids");
    prompt_length_ = Values<int32_t>(*golden, "prompt_len").at(0);
  }

  // Feeds `ids` to a cleared slot in spans of the given length (the last may be shorter); raw
  // logits of every token and the greedy id after the last.
  void Run(const std::vector<int32_t>& ids, int32_t span, std::vector<double>& logits,
           std::vector<int32_t>& greedy) {
    const int32_t slot = 1;
    ASSERT_TRUE(executable_->ClearSlots({slot}).ok());
    for (int32_t start = 0; start < static_cast<int32_t>(ids.size()); start += span) {
      const int32_t rows = std::min(span, static_cast<int32_t>(ids.size()) - start);
      StepTable table;
      table.tokens.assign(ids.begin() + start, ids.begin() + start + rows);
      table.sources.assign(static_cast<size_t>(rows), 0);
      table.spans = {{.slot = slot, .row = 0, .length = rows, .position = start}};
      for (int32_t row = 0; row < rows; ++row) {
        SampleRow sample;
        sample.row = row;
        sample.logits = true;
        sample.params.temperature = 0.0f;
        table.samples.push_back(sample);
      }
      StepOutput output;
      ASSERT_TRUE(executable_->Launch(table).ok());
      const absl::Status status = executable_->Collect(output);
      ASSERT_TRUE(status.ok()) << status;
      logits.insert(logits.end(), output.logits.begin(), output.logits.end());
      greedy.insert(greedy.end(), output.ids.begin(), output.ids.end());
    }
  }

  void ExpectGoldenLogits(int32_t span) {
    double error = 0;
    double norm = 0;
    const int64_t sequences = static_cast<int64_t>(input_ids_.size()) / length_;
    for (int64_t sequence = 0; sequence < sequences; ++sequence) {
      const auto begin = input_ids_.begin() + sequence * length_;
      std::vector<double> logits;
      std::vector<int32_t> greedy;
      Run({begin, begin + length_}, span, logits, greedy);
      ASSERT_EQ(static_cast<int64_t>(logits.size()), length_ * vocabulary_);
      const float* golden = logits_.data() + sequence * length_ * vocabulary_;
      for (size_t i = 0; i < logits.size(); ++i) {
        error += (logits[i] - golden[i]) * (logits[i] - golden[i]);
        norm += double{golden[i]} * golden[i];
      }
    }
    const double rel_err = std::sqrt(error / norm);
    RecordProperty("rel_err", std::to_string(rel_err * 1e9) + "e-9");
    EXPECT_LE(rel_err, std::get<0>(GetParam()).tolerance) << "spans of " << span;
  }

  std::unique_ptr<Backend> backend_;
  Checkpoint checkpoint_;  // outlives executable_, which may read its mapping
  std::unique_ptr<Executable> executable_;
  int64_t length_ = 0;
  int64_t vocabulary_ = 0;
  int32_t prompt_length_ = 0;
  std::vector<int32_t> input_ids_;
  std::vector<float> logits_;
  std::vector<int32_t> greedy_ids_;
};

TEST_P(GoldenTest, WholePrefillGivesTheGoldenLogits) {
  ExpectGoldenLogits(static_cast<int32_t>(length_));
}

TEST_P(GoldenTest, TokenByTokenGivesTheGoldenLogits) { ExpectGoldenLogits(1); }

TEST_P(GoldenTest, AnyChunkGivesTheGoldenLogits) {
  for (int32_t span : {2, 7, 16, 37}) ExpectGoldenLogits(span);
}

TEST_P(GoldenTest, GreedyContinuationEqualsTheGoldenIds) {
  const int64_t sequences = static_cast<int64_t>(input_ids_.size()) / length_;
  const int64_t steps = static_cast<int64_t>(greedy_ids_.size()) / sequences;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const auto prompt = input_ids_.begin() + sequence * length_;
    const auto golden = greedy_ids_.begin() + sequence * steps;
    std::vector<int32_t> ids(prompt, prompt + prompt_length_);
    ids.insert(ids.end(), golden, golden + steps - 1);
    for (int32_t span : {1, static_cast<int32_t>(ids.size())}) {
      std::vector<double> logits;
      std::vector<int32_t> greedy;
      Run(ids, span, logits, greedy);
      ASSERT_EQ(greedy.size(), ids.size());
      EXPECT_TRUE(std::equal(golden, golden + steps, greedy.begin() + prompt_length_ - 1))
          << "sequence " << sequence << ", spans of " << span;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Backends, GoldenTest,
    testing::Combine(testing::Values(BackendCase{"reference", &NewReferenceBackend, 3e-7},
                                     BackendCase{"cpu", &NewCpu, 1e-5}),
                     testing::Values("tiny-a", "tiny-b")),
    [](const testing::TestParamInfo<GoldenTest::ParamType>& test) {
      const std::string fixture = std::get<1>(test.param);
      return std::string(std::get<0>(test.param).name) + "_" + fixture.substr(5);
    });

}  // namespace
}  // namespace based
