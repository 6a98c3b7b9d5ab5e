// Time of the sampling kernel over rows of 50,264 random logits, without rules and with each: the
// host's staging of a step (packing of rules) and the kernel, median of many.
//
//   cuda_sample_bench ROWS...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_table.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sample_staging.h"

namespace based::cuda {
namespace {

constexpr int32_t kVocab = 50'264;
constexpr int kRepeats = 30;

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}
void Check(cudaError_t error) { Check(ToStatus(error, "cuda_sample_bench")); }

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct Setting {
  std::string name;
  SampleRow row;
  SampleRules rules;
};

std::vector<int32_t> Spread(int32_t count) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(i * (kVocab / count));
  return ids;
}

SampleRules Penalties(int32_t count) {
  SampleRules rules{.repetition_penalty = 1.2f, .presence_penalty = 0.3f};
  for (const int32_t id : Spread(count)) rules.counts.push_back({id, 1 + id % 3});
  return rules;
}

std::vector<Setting> Settings(const std::vector<uint32_t>& mask) {
  const SampleRow greedy{.row = 0, .params = {.temperature = 0}};
  const SampleRow drawn{.row = 0, .params = {.temperature = 0.8f, .seed = 5}};
  SampleRow nucleus = drawn;
  nucleus.params.top_p = 0.9f;
  SampleRow top_k = nucleus;
  top_k.params.top_k = 40;
  SampleRow logprob = greedy;
  logprob.logprob = true;
  SampleRow top = logprob;
  top.top_logprobs = 20;
  SampleRules biases;
  for (const int32_t id : Spread(1024)) biases.biases.push_back({id, 1.5f});
  SampleRules all = Penalties(1000);
  all.typical_p = 0.9f;
  all.mask = mask;
  return {{"greedy", greedy, {}},
          {"temperature", drawn, {}},
          {"top_p", nucleus, {}},
          {"top_k and top_p", top_k, {}},
          {"greedy, logprob", logprob, {}},
          {"greedy, 20 alternatives", top, {}},
          {"greedy, mask", greedy, {.mask = mask}},
          {"temperature, mask", drawn, {.mask = mask}},
          {"top_p, mask", nucleus, {.mask = mask}},
          {"temperature, 1,000 allowed", drawn, {.allowed = Spread(1000)}},
          {"temperature, 256 banned", drawn, {.banned = Spread(256)}},
          {"temperature, 1,024 biases", drawn, biases},
          {"temperature, 64 counts", drawn, Penalties(64)},
          {"temperature, 1,000 counts", drawn, Penalties(1000)},
          {"temperature, 5,000 counts", drawn, Penalties(5000)},
          {"temperature, typical_p", drawn, {.typical_p = 0.9f}},
          {"top_p, all of 1,000 counts", nucleus, all}};
}

class Bench {
 public:
  explicit Bench(int32_t rows) : rows_(rows) {
    const int64_t bytes = int64_t{rows} * kVocab * 4;
    fresh_ = Make(bytes);
    logits_ = Make(bytes);
    samples_ = Make(rows * static_cast<int64_t>(sizeof(DeviceSample)));
    results_ = Make(rows * static_cast<int64_t>(sizeof(SampleResult)));
    Check(Fill({fresh_.data(), int64_t{rows} * kVocab, 99, 0.0f, 2.5f, Type::kF32}, nullptr));
    auto staging = SampleStaging::Create(rows, kVocab);
    Check(staging.status());
    staging_ = *std::move(staging);
    for (Event& event : events_) {
      auto made = NewEvent(cudaEventDefault);
      Check(made.status());
      event = *std::move(made);
    }
  }

  void Run(const Setting& setting) {
    StepTable table;
    table.samples.assign(static_cast<size_t>(rows_), setting.row);
    for (size_t i = 0; i < table.samples.size(); ++i) {
      table.samples[i].row = static_cast<int32_t>(i);
      table.samples[i].params.position = static_cast<int64_t>(i);
      const SampleRules& r = setting.rules;
      const bool none = r.counts.empty() && r.biases.empty() && r.allowed.empty() &&
                        r.banned.empty() && r.mask.empty() && r.typical_p == 1;
      if (!none) table.samples[i].rules = &setting.rules;
    }
    std::vector<double> stage;
    std::vector<double> kernel;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      stage.push_back(Stage(table));
      kernel.push_back(Draw());
    }
    std::printf("%5d rows  %-28s  staged in %7.3f ms  drawn in %7.3f ms\n", rows_,
                setting.name.c_str(), Median(stage), Median(kernel));
  }

 private:
  static DeviceBuffer Make(int64_t bytes) {
    auto buffer = DeviceBuffer::Create(bytes, "the benchmark");
    Check(buffer.status());
    return *std::move(buffer);
  }

  double Stage(const StepTable& table) {
    const TableShape shape = ShapeOf(table);
    std::vector<DeviceSample> host(table.samples.size());
    auto* base = reinterpret_cast<std::byte*>(host.data());
    const auto begin = std::chrono::steady_clock::now();
    FillTable(table, nullptr, shape, base);
    Check(staging_.Stage(table.samples, TableView(base, shape).samples));
    const auto end = std::chrono::steady_clock::now();
    Check(cudaMemcpy(samples_.data(), host.data(), host.size() * sizeof(DeviceSample),
                     cudaMemcpyHostToDevice));
    return std::chrono::duration<double, std::milli>(end - begin).count();
  }

  double Draw() {
    Check(cudaMemcpyAsync(logits_.data(), fresh_.data(), static_cast<size_t>(fresh_.bytes()),
                          cudaMemcpyDeviceToDevice, nullptr));
    Check(cudaEventRecord(events_[0].get(), nullptr));
    Check(Sample({.logits = logits_.as<float>(),
                  .samples = samples_.as<DeviceSample>(),
                  .results = results_.as<SampleResult>(),
                  .count = rows_,
                  .stride = kVocab,
                  .vocab_size = kVocab},
                 nullptr));
    Check(cudaEventRecord(events_[1].get(), nullptr));
    Check(cudaEventSynchronize(events_[1].get()));
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, events_[0].get(), events_[1].get()));
    return static_cast<double>(milliseconds);
  }

  const int32_t rows_;
  DeviceBuffer fresh_;
  DeviceBuffer logits_;
  DeviceBuffer samples_;
  DeviceBuffer results_;
  SampleStaging staging_;
  Event events_[2];
};

int Main(int argc, char** argv) {
  std::vector<uint32_t> mask((kVocab + 31) / 32);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = 0x9E3779B9u * static_cast<uint32_t>(i + 1);
  for (int i = 1; i < argc; ++i) {
    Bench bench(std::atoi(argv[i]));
    for (const Setting& setting : Settings(mask)) bench.Run(setting);
  }
  return argc > 1 ? 0 : 2;
}

}  // namespace
}  // namespace based::cuda

int main(int argc, char** argv) { return based::cuda::Main(argc, argv); }
