// Prints what the CPU backend does with a synthetic model, beside what the machine can do.
//
//   cpu_bench [--threads=N] [--dtype=bf16|fp32|fp16] [--width=256] [--layers=cclwcclwc]
//             [--heads=8] [--features=16] [--window=128] [--vocab=4096] [--repeats=5]
//             [--clock=wall|cpu] [--batch=N]
//
// Every figure is the best of several groups of 16 steps (one fold of the linear attention each):
// on a shared machine the smallest time is the one that others disturbed least. The machine's own
// limits are the best of tries before, between and after the figures. --clock=cpu times
// by the process's processor time instead of the wall clock; with --threads=1 (where nothing spins)
// that leaves out the time for which other processes had the core.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/roofline.h"
#include "tests/kernels/cpu/synthetic_model.h"

namespace based {
namespace {

struct Options {
  int32_t threads = 2;
  int32_t repeats = 5;
  std::vector<int32_t> batches = {1, 8, 32};
  clockid_t clock = CLOCK_MONOTONIC;
  ModelShape shape = {.layers = "cclwcclwc",
                      .width = 256,
                      .heads = 8,
                      .feature_dim = 16,
                      .window_left = 64,
                      .vocab = 4096,
                      .padded_vocab = 4096,
                      .dtype = DType::kBF16};
};

// Runs steps of one kind on one executable.
class Runner {
 public:
  Runner(const SyntheticModel& model, const Options& options, int32_t streams)
      : clock_(options.clock), streams_(streams) {
    auto executable =
        NewCpuBackend({.threads = options.threads})
            ->Compile(model.program(), {.max_rows = 512, .max_spans = 256, .max_samples = 256});
    BASED_CHECK(executable.ok());
    executable_ = *std::move(executable);
    BASED_CHECK(executable_->CreateSlots(streams).ok());
  }

  const ExecutableInfo& info() const { return executable_->info(); }

  // One step of `length` tokens for each stream, at `position`; greedy sampling of each last one.
  void Step(int32_t length, int64_t position) {
    table_ = {};
    for (int32_t s = 0; s < streams_; ++s) {
      table_.spans.push_back(
          {.slot = s, .row = s * length, .length = length, .position = position});
      for (int32_t i = 0; i < length; ++i) {
        table_.tokens.push_back(
            static_cast<int32_t>((position + i * 7 + s * 31) % info().vocab_size));
      }
      SampleRow& sample = table_.samples.emplace_back();
      sample.row = s * length + length - 1;
      sample.params.temperature = 0;
    }
    table_.sources.assign(table_.tokens.size(), 0);
    BASED_CHECK(executable_->Launch(table_).ok());
    BASED_CHECK(executable_->Collect(output_).ok());
  }

  // Seconds per step, the least mean of `repeats` groups of `steps` steps from `position` on.
  double TimePerStep(int32_t length, int64_t position, int32_t repeats, int32_t steps) {
    double best = 1e9;
    for (int32_t r = 0; r < repeats; ++r) {
      const double start = Seconds(clock_);
      for (int32_t i = 0; i < steps; ++i) Step(length, position + i * length);
      best = std::min(best, (Seconds(clock_) - start) / steps);
    }
    return best;
  }

 private:
  clockid_t clock_;
  int32_t streams_;
  std::unique_ptr<Executable> executable_;
  StepTable table_;
  StepOutput output_;
};

bool Flag(std::string_view argument, std::string_view name, std::string& value) {
  if (argument.substr(0, name.size()) != name) return false;
  value = argument.substr(name.size());
  return true;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string value;
    ModelShape& shape = options.shape;
    if (Flag(argv[i], "--threads=", value))
      options.threads = std::atoi(value.c_str());
    else if (Flag(argv[i], "--repeats=", value))
      options.repeats = std::atoi(value.c_str());
    else if (Flag(argv[i], "--batch=", value))
      options.batches = {std::atoi(value.c_str())};
    else if (Flag(argv[i], "--width=", value))
      shape.width = std::atoi(value.c_str());
    else if (Flag(argv[i], "--layers=", value))
      shape.layers = value;
    else if (Flag(argv[i], "--heads=", value))
      shape.heads = std::atoi(value.c_str());
    else if (Flag(argv[i], "--features=", value))
      shape.feature_dim = std::atoi(value.c_str());
    else if (Flag(argv[i], "--window=", value))
      shape.window_left = std::atoi(value.c_str()) / 2;
    else if (Flag(argv[i], "--vocab=", value))
      shape.vocab = shape.padded_vocab = std::atoi(value.c_str());
    else if (Flag(argv[i], "--clock=", value)) {
      options.clock = value == "cpu" ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    } else if (Flag(argv[i], "--dtype=", value)) {
      shape.dtype = value == "fp32" ? DType::kF32 : value == "fp16" ? DType::kF16 : DType::kBF16;
    } else {
      std::fprintf(stderr, "unknown flag %s\n", argv[i]);
      std::exit(2);
    }
  }
  return options;
}

// A figure, and the work that its step cannot avoid.
struct Figure {
  std::string what;
  double seconds = 0;  // of a step
  double tokens = 0;
  double flops = 0;  // of the matrices' multiply-adds
  double bytes = 0;  // weights, and the slots of the sequences
};

Figure MakeFigure(std::string what, double seconds, int64_t rows, int64_t samples,
                  const SyntheticModel& model, const ModelShape& shape, const Runner& runner) {
  // The embedding table counts where its logits are asked for.
  const double head = static_cast<double>(shape.padded_vocab) * shape.width;
  return {.what = std::move(what),
          .seconds = seconds,
          .tokens = static_cast<double>(rows),
          .flops = 2 * ((static_cast<double>(model.parameters()) - head) *
                            static_cast<double>(rows) +
                        head * static_cast<double>(samples)),
          .bytes = static_cast<double>(runner.info().weight_bytes) +
                   static_cast<double>(runner.info().slot_bytes * samples)};
}

void Print(const Figure& figure, const Roofline& roofline) {
  const double arithmetic = figure.flops / roofline.flops_per_second / figure.seconds;
  const double memory = figure.bytes / roofline.bytes_per_second / figure.seconds;
  std::printf("%-22s %9.0f tok/s  %8.1f us/step  %6.1f GFLOP/s  %5.1f GB/s  %5.1f%% of %s\n",
              figure.what.c_str(), figure.tokens / figure.seconds, figure.seconds * 1e6,
              figure.flops / figure.seconds * 1e-9, figure.bytes / figure.seconds * 1e-9,
              100 * std::max(arithmetic, memory), arithmetic > memory ? "arithmetic" : "memory");
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  const SyntheticModel model(options.shape);
  ThreadPool pool(options.threads);
  Runner one(model, options, 1);
  std::printf("%s; %lld parameters, %.1f MB of weights, %.1f KB a slot\n",
              one.info().device.c_str(), static_cast<long long>(model.parameters()),
              static_cast<double>(one.info().weight_bytes) * 1e-6,
              static_cast<double>(one.info().slot_bytes) * 1e-3);
  Roofline roofline;
  const auto try_machine = [&] {
    roofline.Improve(
        MeasureRoofline(pool, one.info().weight_bytes, options.repeats, options.clock));
  };
  std::vector<Figure> figures;
  for (const int32_t streams : options.batches) {
    try_machine();
    Runner runner(model, options, streams);
    runner.TimePerStep(1, 128, 1, 64);
    figures.push_back(MakeFigure("decode, batch " + std::to_string(streams),
                                 runner.TimePerStep(1, 192, options.repeats * 20, 16), streams,
                                 streams, model, options.shape, runner));
  }
  try_machine();
  figures.push_back(MakeFigure("prefill, 512 tokens", one.TimePerStep(512, 0, options.repeats, 2),
                               512, 1, model, options.shape, one));
  double near = 1e9;
  double far = 1e9;
  for (int32_t i = 0; i < options.repeats * 40; ++i) {
    near = std::min(near, one.TimePerStep(1, 96, 1, 16));
    far = std::min(far, one.TimePerStep(1, 100'000, 1, 16));
  }
  try_machine();
  std::printf(
      "machine, %d threads: %.0f GFLOP/s of fp32 multiply-adds, %.1f GB/s reading %.0f MB, "
      "%.1f GB/s copying 256 MB (read plus written)\n",
      options.threads, roofline.flops_per_second * 1e-9, roofline.bytes_per_second * 1e-9,
      static_cast<double>(one.info().weight_bytes) * 1e-6, roofline.copy_bytes_per_second * 1e-9);
  for (const Figure& figure : figures) Print(figure, roofline);
  std::printf("time per token at position 100: %.1f us, at 100,000: %.1f us (%+.1f%%)\n",
              near * 1e6, far * 1e6, 100 * (far / near - 1));
  return 0;
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) { return based::Main(argc, argv); }
