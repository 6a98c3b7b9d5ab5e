#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/cpu/every_target.h"
#include "tests/kernels/cpu/synthetic_model.h"

namespace based {
namespace {

using Logits = std::vector<std::vector<double>>;  // [tokens][V]

// What one sequence went through: the logits after each of its tokens, and its slot at the end.
struct Trace {
  Logits logits;
  std::vector<std::byte> image;
};

ModelShape SmallShape() {
  return {.layers = "clwcl",
          .width = 60,
          .heads = 3,
          .feature_dim = 16,
          .window_left = 9,
          .vocab = 61,
          .padded_vocab = 64};
}

std::vector<int32_t> RandomTokens(size_t count, int32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int32_t> uniform(0, vocab - 1);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = uniform(random);
  return tokens;
}

std::unique_ptr<Executable> Compile(Backend& backend, const Program& program, int32_t slots) {
  auto executable = backend.Compile(program, {.max_rows = 96, .max_spans = 8, .max_samples = 96});
  EXPECT_TRUE(executable.ok()) << executable.status();
  EXPECT_TRUE((*executable)->CreateSlots(slots).ok());
  return *std::move(executable);
}

// Runs `sequences` side by side in random spans of at most `longest` tokens and random order of
// slots, and traces each. So often as `cancels` says, one of them is cut half-way: it and the
// next trade slots and begin anew.
std::vector<Trace> Play(Executable& executable, const std::vector<std::vector<int32_t>>& sequences,
                        int32_t longest, uint32_t seed, int32_t cancels = 0) {
  std::mt19937 random(seed);
  std::vector<Trace> traces(sequences.size());
  std::vector<int32_t> slots(sequences.size());
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
  std::shuffle(slots.begin(), slots.end(), random);
  std::vector<size_t> done(sequences.size(), 0);
  while (true) {
    const size_t victim = std::uniform_int_distribution<size_t>(0, slots.size() - 1)(random);
    if (cancels > 0 && done[victim] > sequences[victim].size() / 2) {
      --cancels;
      for (const size_t s : {victim, (victim + 1) % slots.size()}) {
        EXPECT_TRUE(executable.ClearSlots({slots[s]}).ok());
        done[s] = 0;
        traces[s] = {};
      }
      std::swap(slots[victim], slots[(victim + 1) % slots.size()]);
    }
    StepTable table;
    std::vector<size_t> owner;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const size_t left = sequences[s].size() - done[s];
      const size_t most = std::min<size_t>(left, static_cast<size_t>(longest));
      const size_t length = std::uniform_int_distribution<size_t>(0, most)(random);
      if (length == 0) continue;
      table.spans.push_back({.slot = slots[s],
                             .row = static_cast<int32_t>(table.tokens.size()),
                             .length = static_cast<int32_t>(length),
                             .position = static_cast<int64_t>(done[s])});
      for (size_t i = 0; i < length; ++i) {
        SampleRow& sample = table.samples.emplace_back();
        sample.row = static_cast<int32_t>(table.tokens.size());
        sample.sample = false;
        sample.logits = true;
        table.tokens.push_back(sequences[s][done[s]++]);
        owner.push_back(s);
      }
    }
    if (table.spans.empty()) {
      bool all = true;
      for (size_t s = 0; s < sequences.size(); ++s) all = all && done[s] == sequences[s].size();
      if (all) break;
      continue;
    }
    table.sources.assign(table.tokens.size(), 0);
    EXPECT_TRUE(executable.Launch(table).ok());
    StepOutput output;
    EXPECT_TRUE(executable.Collect(output).ok());
    const auto width = static_cast<size_t>(executable.info().padded_vocab_size);
    for (size_t i = 0; i < owner.size(); ++i) {
      EXPECT_EQ(output.finite[i], 1);
      const auto from = output.logits.begin() + static_cast<int64_t>(i * width);
      traces[owner[i]].logits.emplace_back(from, from + static_cast<int64_t>(width));
    }
  }
  for (size_t s = 0; s < sequences.size(); ++s) {
    traces[s].image.resize(static_cast<size_t>(executable.info().image_bytes));
    EXPECT_TRUE(
        executable
            .ExportSlot(slots[s], static_cast<int64_t>(done[s]), absl::MakeSpan(traces[s].image))
            .ok());
    EXPECT_TRUE(executable.ClearSlots({slots[s]}).ok());
  }
  return traces;
}

double RelativeError(const Logits& got, const Logits& want) {
  double difference = 0;
  double norm = 0;
  for (size_t t = 0; t < want.size(); ++t) {
    for (size_t i = 0; i < want[t].size(); ++i) {
      difference += std::pow(got[t][i] - want[t][i], 2);
      norm += std::pow(want[t][i], 2);
    }
  }
  return std::sqrt(difference / norm);
}

BASED_ON_EVERY_TARGET();

struct ShapeCase {
  std::string name;
  ModelShape shape;
};

TEST_P(EveryTarget, AgreesWithReference) {
  const std::vector<ShapeCase> cases = {
      {"plain", SmallShape()},
      {"bf16", {.layers = "clw", .width = 64, .heads = 4, .feature_dim = 8, .dtype = DType::kBF16}},
      {"fp16",
       {.layers = "wlc",
        .width = 56,
        .heads = 2,
        .feature_dim = 5,
        .window_left = 40,
        .vocab = 30,
        .padded_vocab = 33,
        .dtype = DType::kF16}},
      {"current token only", {.layers = "wc", .width = 36, .heads = 1, .window_left = 0}},
      {"odd widths", {.layers = "clc", .width = 45, .heads = 3, .vocab = 30, .padded_vocab = 31}},
      {"one feature", {.layers = "l", .width = 20, .heads = 2, .feature_dim = 1}},
      {"wide features", {.layers = "l", .width = 48, .heads = 2, .feature_dim = 21}},
  };
  for (const ShapeCase& test : cases) {
    SCOPED_TRACE(test.name);
    const SyntheticModel model(test.shape);
    const std::vector<std::vector<int32_t>> sequences = {RandomTokens(75, test.shape.vocab, 11),
                                                         RandomTokens(34, test.shape.vocab, 12)};
    const auto reference = Compile(*NewReferenceBackend(), model.program(), 2);
    const auto cpu = Compile(*NewCpuBackend({.threads = 2}), model.program(), 2);
    const std::vector<Trace> want = Play(*reference, sequences, 30, 1);
    const std::vector<Trace> got = Play(*cpu, sequences, 30, 2);
    for (size_t s = 0; s < sequences.size(); ++s) {
      EXPECT_LT(RelativeError(got[s].logits, want[s].logits), 3e-6);
    }
  }
}

TEST_P(EveryTarget, SplitsBatchesSlotsCancelsAndThreadsChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    ModelShape shape = SmallShape();
    shape.dtype = dtype;
    const SyntheticModel model(shape);
    std::vector<std::vector<int32_t>> sequences;
    for (uint32_t s = 0; s < 6; ++s) {
      sequences.push_back(RandomTokens(20 + 13 * s, shape.vocab, 100 + s));
    }
    // The truth: each sequence alone, one token at a time, on one thread.
    const auto plain = Compile(*NewCpuBackend({.threads = 1}), model.program(), 1);
    std::vector<Trace> want;
    for (const auto& sequence : sequences) want.push_back(Play(*plain, {sequence}, 1, 1).front());
    for (const int32_t threads : {1, 2, 3, 5}) {
      const auto cpu = Compile(*NewCpuBackend({.threads = threads}), model.program(), 6);
      for (const int32_t longest : {2, 16}) {
        const auto seed = static_cast<uint32_t>(threads * 100 + longest);
        const std::vector<Trace> got = Play(*cpu, sequences, longest, seed, /*cancels=*/4);
        for (size_t s = 0; s < sequences.size(); ++s) {
          EXPECT_TRUE(got[s].logits == want[s].logits)
              << "threads " << threads << " sequence " << s;
          EXPECT_TRUE(got[s].image == want[s].image) << "threads " << threads << " sequence " << s;
        }
      }
    }
  }
}

}  // namespace
}  // namespace based
