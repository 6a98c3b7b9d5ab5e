#include "tests/kernels/cuda/sample_rows.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/device_table.h"

namespace based::cuda {
namespace {

void Check(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }
void Check(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

template <typename T>
DeviceBuffer Upload(const std::vector<T>& values) {
  auto buffer = DeviceBuffer::Create(static_cast<int64_t>(values.size() * sizeof(T)), "a test");
  EXPECT_TRUE(buffer.ok()) << buffer.status();
  Check(
      cudaMemcpy(buffer->data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return *std::move(buffer);
}

// Results begin as what no kernel writes. `meanwhile` is called when the kernel has been launched.
std::vector<SampleResult> Draw(
    const DeviceBuffer& logits, const std::vector<DeviceSample>& samples, int32_t stride,
    int32_t vocab_size, const std::function<void()>& meanwhile = [] {},
    int64_t limit_ns = kLateLimitNs) {
  std::vector<SampleResult> results(samples.size(), {1e30, -99, 99});
  const DeviceBuffer device_samples = Upload(samples);
  const DeviceBuffer device_results = Upload(results);
  Check(Sample({.logits = logits.as<float>(),
                .samples = device_samples.as<DeviceSample>(),
                .results = device_results.as<SampleResult>(),
                .count = static_cast<int32_t>(samples.size()),
                .stride = stride,
                .vocab_size = vocab_size,
                .late_limit_ns = limit_ns},
               nullptr));
  meanwhile();
  Check(cudaMemcpy(results.data(), device_results.data(), results.size() * sizeof(SampleResult),
                   cudaMemcpyDeviceToHost));
  return results;
}

// DeviceSamples of a step with these samples alone.
std::vector<DeviceSample> Staged(const std::vector<SampleRow>& rows, SampleStaging& staging) {
  StepTable table;
  table.samples = rows;
  const TableShape shape = ShapeOf(table);
  std::vector<DeviceSample> samples(rows.size() + 1);  // room for what the view aligns to
  auto* base = reinterpret_cast<std::byte*>(samples.data());
  FillTable(table, nullptr, shape, base);
  Check(staging.Stage(rows, TableView(base, shape).samples));
  samples.resize(rows.size());
  return samples;
}

}  // namespace

DrawnRows DrawRows(const std::vector<std::vector<float>>& logits, std::vector<SampleRow> samples,
                   int32_t stride) {
  return DrawLateRows(logits, std::move(samples), stride, [](SampleStaging&) {});
}

DrawnRows DrawLateRows(const std::vector<std::vector<float>>& logits,
                       std::vector<SampleRow> samples, int32_t stride,
                       const std::function<void(SampleStaging&)>& supply, int64_t limit_ns) {
  const auto vocab_size = static_cast<int32_t>(logits.at(0).size());
  // What lies between the rows is larger than any logit.
  std::vector<float> flat(logits.size() * static_cast<size_t>(stride), 3e38f);
  for (size_t i = 0; i < logits.size(); ++i) {
    samples.at(i).row = static_cast<int32_t>(i);
    std::copy(logits[i].begin(), logits[i].end(), flat.begin() + static_cast<int64_t>(i) * stride);
  }
  auto staging = SampleStaging::Create(4, vocab_size);  // grows
  Check(staging.status());
  DrawnRows drawn;
  const std::vector<DeviceSample> staged = Staged(samples, *staging);
  drawn.results = Draw(
      Upload(flat), staged, stride, vocab_size, [&] { supply(*staging); }, limit_ns);
  staging->CopyTop(drawn.top);
  return drawn;
}

std::vector<int64_t> CountDraws(const std::vector<float>& logits, const SampleRow& sample,
                                int64_t draws) {
  constexpr int64_t kBatch = 1 << 17;
  const auto vocab_size = static_cast<int32_t>(logits.size());
  auto staging = SampleStaging::Create(1, vocab_size);
  Check(staging.status());
  std::vector<DeviceSample> samples(static_cast<size_t>(kBatch),
                                    Staged({sample}, *staging).front());
  std::vector<float> rows;
  for (int64_t i = 0; i < kBatch; ++i) rows.insert(rows.end(), logits.begin(), logits.end());
  std::vector<int64_t> counts(logits.size());
  for (int64_t first = 0; first < draws; first += kBatch) {
    for (int64_t i = 0; i < kBatch; ++i) samples[static_cast<size_t>(i)].position = first + i;
    for (const SampleResult& result : Draw(Upload(rows), samples, vocab_size, vocab_size)) {
      if (result.id >= 0) ++counts.at(static_cast<size_t>(result.id));
    }
  }
  return counts;
}

}  // namespace based::cuda
