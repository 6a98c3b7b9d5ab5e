// Speed of the cuda backend on the published 1.3B shape with random bf16 weights made on the
// device. Whole steps through the seam, sampling included: what an engine that does nothing would
// see.
//
//   cuda_bench decode BATCH...          greedy decode steps, depth 2, all streams in one fold phase
//   cuda_bench position BATCH           the same at position 1,000,000 against 300
//   cuda_bench prefill B T ROWS         whole-model prefill of B prompts of T tokens, ROWS a step
//   cuda_bench mixed BATCH ROWS...      BATCH decodes beside ROWS rows of prefill in spans of 512
//   cuda_bench taylor B T               one linear-attention layer over B spans of T (profiled)
//   cuda_bench sweep ROWS...            cuBLASLt over the model's weight shapes, not in cache
//   cuda_bench step BATCH               one decode step between profiler start and stop
//   cuda_bench prefill_step B ROWS      one prefill step likewise
// Options before the command: --invariant, --generic, --eager, --plain (no deferred fold), --360m,
// --steps=N (of decode; 0: 120 or at large batches 40), --rest=MS (before each decode step, which
// then runs alone, below the card's power limit).
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/gemm.h"
#include "tests/bench/cuda_model.h"

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

// Ceilings measured on an NVIDIA H100 80GB HBM3: device copy, reads, bf16 GEMM of 8192^3.
constexpr double kReadBytesPerSecond = 3.1e12;
constexpr double kFlopsPerSecond = 796e12;

void Fail(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

struct Setup {
  CudaBackendOptions options;
  BenchShape shape = Based1B();
  int32_t steps = 0;
  int32_t rest_ms = 0;
};

class Bench {
 public:
  Bench(const Setup& setup, const CompileOptions& compile, int32_t slots)
      : rest_(setup.rest_ms), program_(BenchProgram(setup.shape)), shape_(setup.shape) {
    auto backend = NewCudaBackend(setup.options);
    Fail(backend.status());
    backend_ = *std::move(backend);
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    std::printf("# %.3f of %.3f GB free at start\n", static_cast<double>(free_bytes) * 1e-9,
                static_cast<double>(total_bytes) * 1e-9);
    const auto start = Clock::now();
    auto executable = backend_->Compile(program_, compile);
    Fail(executable.status());
    executable_ = *std::move(executable);
    const auto compiled = Clock::now();
    const int64_t room = executable_->info().available_bytes / executable_->info().slot_bytes;
    Fail(executable_->CreateSlots(slots));
    std::printf(
        "# %s: compile %.0f ms, slots and graphs %.0f ms, weights %.3f GB, workspace %.3f GB, "
        "slot %.3f MB, room for %lld slots\n",
        executable_->info().device.c_str(), Milliseconds(compiled - start),
        Milliseconds(Clock::now() - compiled), Giga(executable_->info().weight_bytes),
        Giga(executable_->info().workspace_bytes), Giga(executable_->info().slot_bytes) * 1e3,
        static_cast<long long>(room));
  }

  static double Giga(int64_t bytes) { return static_cast<double>(bytes) * 1e-9; }

  Executable& executable() { return *executable_; }
  const BenchShape& shape() const { return shape_; }
  double parameters() const { return static_cast<double>(Parameters(program_)); }

  int32_t RandomToken() { return static_cast<int32_t>(random_() % 50000); }

  // `spans` spans of `length` random tokens at `position`; no samples.
  StepTable Prompt(int32_t first_slot, int32_t spans, int32_t length, int64_t position) {
    StepTable table;
    for (int32_t i = 0; i < spans; ++i) {
      table.spans.push_back({first_slot + i, i * length, length, position});
    }
    for (int32_t i = 0; i < spans * length; ++i) table.tokens.push_back(RandomToken());
    return table;
  }

  void Run(const StepTable& table) {
    Fail(executable_->Launch(table));
    Fail(executable_->Collect(output_));
  }

  // Gives slots [0, batch) a history of `tokens` random tokens: some by prefill, the rest by
  // copies.
  void Warm(int32_t batch, int32_t tokens) {
    const int32_t real = std::min(batch, 8);
    Run(Prompt(0, real, tokens, 0));
    std::vector<SlotCopy> copies;
    for (int32_t slot = real; slot < batch; ++slot) copies.push_back({slot % real, slot});
    Fail(executable_->CopySlots(copies));
  }

  StepTable Decode(int32_t batch, int64_t position, bool from_previous) {
    StepTable table;
    for (int32_t i = 0; i < batch; ++i) {
      table.tokens.push_back(from_previous ? kTokenFromPrevious : RandomToken());
      table.sources.push_back(i);
      table.spans.push_back({i, i, 1, position});
      SampleRow sample;
      sample.row = i;
      sample.params.temperature = 0.0f;
      table.samples.push_back(sample);
    }
    return table;
  }

  // Milliseconds between the results of consecutive steps; with a rest, of each step from its
  // launch.
  std::vector<double> DecodeSteps(int32_t batch, int64_t position, int32_t steps) {
    if (rest_.count() > 0) return RestedSteps(batch, position, steps);
    std::vector<double> times;
    Fail(executable_->Launch(Decode(batch, position, false)));
    auto last = Clock::now();
    for (int32_t i = 1; i <= steps; ++i) {
      if (i < steps) Fail(executable_->Launch(Decode(batch, position + i, true)));
      Fail(executable_->Collect(output_));
      const auto now = Clock::now();
      if (i > 3) times.push_back(Milliseconds(now - last));
      last = now;
    }
    return times;
  }

 private:
  std::vector<double> RestedSteps(int32_t batch, int64_t position, int32_t steps) {
    std::vector<double> times;
    for (int32_t i = 0; i < steps; ++i) {
      const StepTable table = Decode(batch, position + i, i > 0);
      std::this_thread::sleep_for(rest_);
      const auto begin = Clock::now();
      Run(table);
      if (i >= 3) times.push_back(Milliseconds(Clock::now() - begin));
    }
    return times;
  }

  const std::chrono::milliseconds rest_;
  Program program_;
  BenchShape shape_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executable> executable_;
  StepOutput output_;
  std::mt19937 random_{1};
};

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// Bytes of state that a decode step moves for one sequence (DESIGN: deferred fold every 8th token).
double StateBytes(const BenchShape& shape) {
  const double d = shape.width;
  const double linear = static_cast<double>(shape.linear_layers.size());
  const double window = static_cast<double>(shape.window_layers.size());
  const double conv = shape.layers - linear - window;
  const double s = linear * 153 * (d + shape.heads) * 4;
  return s * (1 + 1.0 / 8) + window * (2 * shape.window_left + 2) * d * 2 + conv * 3 * 2 * d * 2 +
         linear * 4.5 * (d + 16 * shape.heads) * 2;
}

void PrintDecode(Bench& bench, int32_t batch, const std::vector<double>& times) {
  const double ms = Quantile(times, 0.5);
  const double weights = bench.parameters() * 2;
  const double bytes = weights + batch * StateBytes(bench.shape());
  const double flops = 2 * bench.parameters() * batch;
  const double floor_ms = 1e3 * (batch * StateBytes(bench.shape()) / kReadBytesPerSecond +
                                 std::max(weights / kReadBytesPerSecond, flops / kFlopsPerSecond));
  std::printf(
      "decode batch %5d: %8.3f ms (p99/median %.3f)  %9.0f tok/s  %7.1f GB/s  %6.1f TFLOP/s  "
      "floor %.3f ms, reached %.0f%%\n",
      batch, ms, Quantile(times, 0.99) / ms, batch / ms * 1e3, bytes / ms * 1e-6, flops / ms * 1e-9,
      floor_ms, 100 * floor_ms / ms);
}

// Of many steps: how the place in a fold's interval tells in their time, and how far the card's
// clock drifted meanwhile.
void PrintPhases(const std::vector<double>& times) {
  constexpr size_t kInterval = 8;
  constexpr size_t kWindow = 64;
  if (times.size() < 4 * kWindow) return;
  std::vector<double> of_phase;
  for (size_t phase = 0; phase < kInterval; ++phase) {
    std::vector<double> steps;
    for (size_t i = phase; i < times.size(); i += kInterval) steps.push_back(times[i]);
    of_phase.push_back(Quantile(steps, 0.5));
  }
  std::vector<double> medians;
  std::vector<double> relative;  // to the median of the steps around
  std::vector<double> slow;      // numbers of the steps that took much longer than those
  for (size_t begin = 0; begin + kWindow <= times.size(); begin += kWindow) {
    const auto at = times.begin() + static_cast<ptrdiff_t>(begin);
    const std::vector<double> window(at, at + kWindow);
    medians.push_back(Quantile(window, 0.5));
    for (const double time : window) {
      relative.push_back(time / medians.back());
      if (relative.back() > 1.05) slow.push_back(static_cast<double>(relative.size()));
    }
  }
  std::vector<double> apart;
  for (size_t i = 1; i < slow.size(); ++i) apart.push_back(slow[i] - slow[i - 1]);
  std::printf(
      "  medians of the %zu fold phases: %.3f to %.3f ms; of windows of %zu steps: %.3f to %.3f "
      "ms; "
      "p99 against the window's median %.3f\n",
      kInterval, *std::min_element(of_phase.begin(), of_phase.end()),
      *std::max_element(of_phase.begin(), of_phase.end()), kWindow,
      *std::min_element(medians.begin(), medians.end()),
      *std::max_element(medians.begin(), medians.end()), Quantile(relative, 0.99));
  if (apart.empty()) return;
  std::printf("  %zu of %zu steps took over 1.05 times that, a median of %.0f steps apart\n",
              slow.size(), relative.size(), Quantile(apart, 0.5));
}

void RunDecode(const Setup& setup, const std::vector<int32_t>& batches) {
  const int32_t most = *std::max_element(batches.begin(), batches.end());
  const int32_t rows = std::max(most, 2048);
  Bench bench(setup, {.max_rows = rows, .max_spans = most, .max_samples = most}, most);
  bench.Warm(most, 200);
  int64_t position = 200;
  for (const int32_t batch : batches) {
    const int32_t few = batch >= 1024 ? 43 : 123;
    const int32_t steps = setup.steps > 0 ? setup.steps + 3 : few;
    const std::vector<double> times = bench.DecodeSteps(batch, position, steps);
    PrintDecode(bench, batch, times);
    PrintPhases(times);
    position += steps;
  }
}

void RunPosition(const Setup& setup, int32_t batch) {
  Bench bench(setup, {.max_rows = 2048, .max_spans = batch, .max_samples = batch}, batch);
  bench.Warm(batch, 200);
  for (const int64_t position : {int64_t{200}, int64_t{1'000'000}, int64_t{300}}) {
    std::printf("position %lld: ", static_cast<long long>(position));
    PrintDecode(bench, batch, bench.DecodeSteps(batch, position, 83));
  }
}

// What a step costs that decodes and prefills: the slope is what the scheduler's StepCost learns.
void RunMixed(const Setup& setup, int32_t batch, const std::vector<int32_t>& prefill_rows) {
  constexpr int32_t kPrompt = 512;
  const int32_t most = *std::max_element(prefill_rows.begin(), prefill_rows.end());
  const int32_t spans = batch + (most + kPrompt - 1) / kPrompt;
  const int32_t rows_of_warmth = 8 * 200;  // see Warm
  Bench bench(setup,
              {.max_rows = std::max(batch + most, rows_of_warmth),
               .max_spans = spans,
               .max_samples = spans},
              spans);
  bench.Warm(batch, 200);
  StepOutput output;
  for (const int32_t rows : prefill_rows) {
    std::vector<double> times;
    for (int32_t i = 0; i < 25; ++i) {
      StepTable table = bench.Decode(batch, 200, false);
      for (int32_t at = 0; at < rows; at += kPrompt) {
        const int32_t length = std::min(kPrompt, rows - at);
        table.spans.push_back({batch + at / kPrompt, batch + at, length, 0});
        for (int32_t t = 0; t < length; ++t) table.tokens.push_back(bench.RandomToken());
      }
      table.sources.resize(table.tokens.size(), kNone);
      const auto start = Clock::now();
      Fail(bench.executable().Launch(table));
      const auto launched = Clock::now();
      Fail(bench.executable().Collect(output));
      if (i > 4) times.push_back(Milliseconds(Clock::now() - start));
      if (i == 24) std::printf("launch %.3f ms, ", Milliseconds(launched - start));
    }
    std::printf("%d decodes beside %d rows of prefill: %.3f ms\n", batch, rows,
                Quantile(times, 0.5));
  }
}

void RunPrefill(const Setup& setup, int32_t batch, int32_t tokens, int32_t rows) {
  Bench bench(setup, {.max_rows = rows, .max_spans = batch, .max_samples = batch}, batch);
  const int32_t length = rows / batch;
  std::vector<StepTable> steps;
  for (int32_t at = 0; at < tokens; at += length) {
    steps.push_back(bench.Prompt(0, batch, std::min(length, tokens - at), at));
  }
  std::vector<int32_t> slots;
  for (int32_t slot = 0; slot < batch; ++slot) slots.push_back(slot);
  std::vector<double> times;
  StepOutput output;
  for (int32_t run = 0; run < 5; ++run) {
    Fail(bench.executable().ClearSlots(slots));
    const auto start = Clock::now();
    Fail(bench.executable().Launch(steps[0]));
    for (size_t i = 1; i < steps.size(); ++i) {
      Fail(bench.executable().Launch(steps[i]));
      Fail(bench.executable().Collect(output));
    }
    Fail(bench.executable().Collect(output));
    if (run > 0) times.push_back(Milliseconds(Clock::now() - start));
  }
  const double ms = Quantile(times, 0.5);
  const double count = static_cast<double>(batch) * tokens;
  const double flops = 2 * (bench.parameters() -
                            static_cast<double>(bench.shape().width) * bench.shape().padded_vocab);
  std::printf(
      "prefill (%d, %d), %d rows a step: %.2f ms  %.0f tok/s  %.1f TFLOP/s in GEMMs  "
      "floor %.2f ms, reached %.0f%%\n",
      batch, tokens, rows, ms, count / ms * 1e3, flops * count / ms * 1e-9,
      flops * count / kFlopsPerSecond * 1e3, 100 * flops * count / kFlopsPerSecond * 1e3 / ms);
}

void Profiled(Bench& bench, const StepTable& table) {
  cudaProfilerStart();
  bench.Run(table);
  cudaProfilerStop();
}

// Embed of random rows as wide as q, k and v; the mixer; logits of one column nobody asks for.
void RunTaylor(const Setup& setup, int32_t batch, int32_t tokens) {
  const int32_t heads = setup.shape.heads;
  const int32_t head_dim = setup.shape.width / heads;
  const int32_t width = heads * (2 * 16 + head_dim);
  Program program;
  program.buffers = {{.width = width}, {.width = setup.shape.width}};
  const auto weight = [&](const char* name, int64_t rows, int64_t cols) {
    program.weights.push_back({.name = name,
                               .data = nullptr,
                               .dtype = DType::kBF16,
                               .rows = rows,
                               .cols = cols,
                               .synthetic_seed = program.weights.size() + 1,
                               .synthetic_mean = 0,
                               .synthetic_stddev = 1});
    return static_cast<WeightId>(program.weights.size() - 1);
  };
  program.ops = {
      EmbedOp{.table = weight("table", 4096, width), .out = 0},
      TaylorMixOp{.in = 0, .heads = heads, .feature_dim = 16, .head_dim = head_dim, .out = 1},
      LogitsOp{.in = 1, .table = weight("logits", 64, setup.shape.width), .vocab_size = 64}};
  program.spare_tokens = 1;
  auto backend = NewCudaBackend(setup.options);
  Fail(backend.status());
  auto executable = (*backend)->Compile(
      program, {.max_rows = batch * tokens, .max_spans = batch, .max_samples = batch});
  Fail(executable.status());
  Fail((*executable)->CreateSlots(batch));
  std::mt19937 random(3);
  StepTable table;
  StepOutput output;
  for (int32_t i = 0; i < batch; ++i) table.spans.push_back({i, i * tokens, tokens, 0});
  for (int32_t i = 0; i < batch * tokens; ++i) {
    table.tokens.push_back(static_cast<int32_t>(random() % 4096));
  }
  std::vector<int32_t> slots;
  for (int32_t i = 0; i < batch; ++i) slots.push_back(i);
  for (int32_t run = 0; run < 4; ++run) {
    Fail((*executable)->ClearSlots(slots));
    cudaDeviceSynchronize();
    if (run == 3) cudaProfilerStart();
    const auto start = Clock::now();
    Fail((*executable)->Launch(table));
    Fail((*executable)->Collect(output));
    if (run == 3) cudaProfilerStop();
    std::printf("taylor (%d, %d, %d, %d): whole step %.3f ms\n", batch, tokens, heads, head_dim,
                Milliseconds(Clock::now() - start));
  }
}

// Median time of y = x W^T (+ y for the layers that add to the residual), bf16, weights not in L2.
void RunSweep(const Setup& setup, const std::vector<int32_t>& rows) {
  struct Layer {
    int32_t k, n;
    cuda::Type out_type;
    bool accumulate;
  };
  constexpr Layer kLayers[] = {
      {1792, 7168, cuda::Type::kBF16, false}, {3584, 1792, cuda::Type::kF32, true},
      {1792, 2304, cuda::Type::kBF16, false}, {1792, 5376, cuda::Type::kBF16, false},
      {1792, 1792, cuda::Type::kF32, true},   {1792, 50264, cuda::Type::kF32, false}};
  constexpr int32_t kRuns = 15;
  constexpr int64_t kFlushBytes = int64_t{96} << 20;
  const int32_t most = *std::max_element(rows.begin(), rows.end());
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  cudaEvent_t start;
  cudaEvent_t stop;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  auto gemm = cuda::Gemm::Create({.batch_invariant = setup.options.batch_invariant, .tune = true});
  Fail(gemm.status());
  auto flush = cuda::DeviceBuffer::Create(kFlushBytes, "flush");
  Fail(flush.status());
  for (const Layer& layer : kLayers) {
    const int64_t weights = int64_t{layer.k} * layer.n;
    auto weight = cuda::DeviceBuffer::Create(weights * 2, "W");
    auto in = cuda::DeviceBuffer::Create(int64_t{most} * layer.k * 2, "x");
    auto out = cuda::DeviceBuffer::Create(int64_t{most} * layer.n * 4, "y");
    Fail(weight.status());
    Fail(in.status());
    Fail(out.status());
    cuda::Fill({weight->data(), weights, 1, 0, 0.02f, cuda::Type::kBF16}, stream);
    cuda::Fill({in->data(), int64_t{most} * layer.k, 2, 0, 1, cuda::Type::kBF16}, stream);
    const cuda::GemmShape shape = {layer.n,        layer.k, cuda::Type::kBF16,
                                   layer.out_type, false,   layer.accumulate};
    for (const int32_t count : rows) {
      const cuda::GemmCall call = {weight->data(), in->data(), nullptr, out->data(), count};
      Fail((*gemm)->Prepare(shape, {count}, call, stream));
      std::vector<double> times;
      for (int32_t run = 0; run < kRuns; ++run) {
        cudaMemsetAsync(flush->data(), run, static_cast<size_t>(kFlushBytes), stream);
        cudaEventRecord(start, stream);
        Fail((*gemm)->Run(shape, call, stream));
        cudaEventRecord(stop, stream);
        cudaEventSynchronize(stop);
        float ms = 0;
        cudaEventElapsedTime(&ms, start, stop);
        times.push_back(static_cast<double>(ms));
      }
      const double ms = Quantile(times, 0.5);
      std::printf("gemm (K %d, N %5d) M %5d: %8.1f us  %6.1f TFLOP/s  %7.1f GB/s of weights\n",
                  layer.k, layer.n, count, ms * 1e3,
                  2e-9 * static_cast<double>(weights) * count / ms,
                  2e-6 * static_cast<double>(weights) / ms);
    }
  }
}

int Main(std::vector<std::string> arguments) {
  Setup setup;
  while (!arguments.empty() && arguments[0].starts_with("--")) {
    if (arguments[0] == "--invariant") setup.options.batch_invariant = true;
    if (arguments[0] == "--generic") setup.options.generic_only = true;
    if (arguments[0] == "--plain") setup.options.fold_interval = 1;
    if (arguments[0] == "--eager") setup.options.graphs = false;
    if (arguments[0] == "--360m") setup.shape = Based360M();
    if (arguments[0].starts_with("--steps=")) setup.steps = std::atoi(arguments[0].c_str() + 8);
    if (arguments[0].starts_with("--rest=")) setup.rest_ms = std::atoi(arguments[0].c_str() + 7);
    arguments.erase(arguments.begin());
  }
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: see the head of tests/bench/cuda_bench.cc\n");
    return 2;
  }
  const std::string command = arguments[0];
  std::vector<int32_t> numbers;
  for (size_t i = 1; i < arguments.size(); ++i) numbers.push_back(std::atoi(arguments[i].c_str()));
  numbers.resize(std::max<size_t>(numbers.size(), 1));
  if (command == "decode") RunDecode(setup, numbers);
  if (command == "sweep") RunSweep(setup, numbers);
  if (command == "mixed") {
    RunMixed(setup, numbers[0], {numbers.begin() + 1, numbers.end()});
  }
  if (command == "position") RunPosition(setup, numbers[0]);
  if (command == "prefill") RunPrefill(setup, numbers.at(0), numbers.at(1), numbers.at(2));
  if (command == "taylor") RunTaylor(setup, numbers.at(0), numbers.at(1));
  if (command == "step" || command == "prefill_step") {
    setup.options.graphs = false;
    const int32_t batch = numbers[0];
    const int32_t rows = command == "step" ? std::max(batch, 1600) : numbers.at(1);
    Bench bench(setup, {.max_rows = rows, .max_spans = batch, .max_samples = batch}, batch);
    if (command == "step") {
      bench.Warm(batch, 200);
      for (int32_t i = 0; i < 3; ++i) bench.Run(bench.Decode(batch, 200 + i, false));
      Profiled(bench, bench.Decode(batch, 203, false));
    } else {
      bench.Run(bench.Prompt(0, batch, rows / batch, 0));
      Profiled(bench, bench.Prompt(0, batch, rows / batch, rows / batch));
    }
  }
  return 0;
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) { return based::Main({argv + 1, argv + argc}); }
