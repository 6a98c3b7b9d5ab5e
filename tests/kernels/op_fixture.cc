#include "tests/kernels/op_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/backends.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// The number in units of its last place when it has `bits` significant bits, and that place.
struct Quantized {
  double units;
  int exponent;  // value = units * 2^exponent
};

Quantized Quantize(double value, int bits, int min_exponent) {
  int exponent = 0;
  std::frexp(value, &exponent);
  exponent = std::max(exponent - bits, min_exponent);
  return {std::nearbyint(std::ldexp(value, -exponent)), exponent};
}

// Appends the stored form of `value` and returns the value stored.
double Store(DType dtype, double value, std::vector<uint8_t>& storage) {
  const auto append = [&](const void* data, size_t bytes) {
    const auto* first = static_cast<const uint8_t*>(data);
    storage.insert(storage.end(), first, first + bytes);
  };
  if (dtype == DType::kF16) {
    const Quantized q = Quantize(std::abs(value), 11, -24);
    // The leading 1 of a normal number adds one to the exponent field: (E + 15) with E = exponent
    // + 10.
    const int magnitude = (q.exponent + 24) * 1024 + static_cast<int>(q.units);
    const uint16_t bits = static_cast<uint16_t>(magnitude | (std::signbit(value) ? 0x8000 : 0));
    append(&bits, sizeof(bits));
    return std::copysign(std::ldexp(q.units, q.exponent), value);
  }
  float single = static_cast<float>(value);
  if (dtype == DType::kF32) {
    append(&single, sizeof(single));
    return static_cast<double>(single);
  }
  const Quantized q = Quantize(value, 8, -133);
  single = static_cast<float>(std::ldexp(q.units, q.exponent));
  const uint16_t bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(single) >> 16);
  append(&bits, sizeof(bits));
  return static_cast<double>(single);
}

}  // namespace

std::vector<std::string> TestBackends() {
  std::vector<std::string> backends = {"reference", "cpu"};
#ifdef BASED_WITH_CUDA
  backends.push_back("cuda");
#endif
  return backends;
}

double UnitRoundoff(const std::string& backend) {
  if (backend == "reference") return 0x1p-53;
  return backend == "cpu" ? 0x1p-24 : 0x1p-9;
}

double Tolerance(const std::string& backend, int64_t terms) {
  return UnitRoundoff(backend) * (4 * std::sqrt(static_cast<double>(terms)) + 8);
}

bool IsSplitInvariant(const std::string& backend) { return backend != "cuda"; }

void ExpectClose(const Rows& actual, const Oracle& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.values.size());
  for (size_t t = 0; t < actual.size(); ++t) {
    ASSERT_EQ(actual[t].size(), expected.values[t].size());
    for (size_t j = 0; j < actual[t].size(); ++j) {
      const double allowed = tolerance * expected.magnitudes[t][j];
      const double error = std::abs(actual[t][j] - expected.values[t][j]);
      ASSERT_TRUE(error <= allowed)  // false for NaN
          << "row " << t << ", column " << j << ": " << actual[t][j] << ", expected "
          << expected.values[t][j] << " to within " << allowed << ", off by " << error;
    }
  }
}

Rows RandomData::Normal(int64_t rows, int64_t cols, double scale) {
  std::normal_distribution<double> normal(0, scale);
  Rows values(static_cast<size_t>(rows), std::vector<double>(static_cast<size_t>(cols)));
  for (auto& row : values) {
    for (double& value : row) value = normal(engine_);
  }
  return values;
}

std::vector<int32_t> RandomData::Ids(int64_t count, int32_t below) {
  std::uniform_int_distribution<int32_t> uniform(0, below - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = uniform(engine_);
  return ids;
}

WeightId TestModel::AddWeight(DType dtype, const Rows& values) {
  const WeightId id = static_cast<WeightId>(values_.size());
  Rows& rounded = values_.emplace_back(values);
  std::vector<uint8_t>& storage = storage_.emplace_back();
  for (auto& row : rounded) {
    for (double& value : row) value = Store(dtype, value, storage);
  }
  program_.weights.push_back({.name = absl::StrCat("weight", id),
                              .data = storage.data(),
                              .dtype = dtype,
                              .rows = static_cast<int64_t>(values.size()),
                              .cols = static_cast<int64_t>(values[0].size())});
  return id;
}

BufferId TestModel::AddBuffer(int32_t width, bool residual) {
  program_.buffers.push_back({.width = width, .residual = residual});
  return static_cast<BufferId>(program_.buffers.size() - 1);
}

BufferId TestModel::AddInput(RandomData& random, int32_t rows, int32_t width) {
  const WeightId table = AddWeight(DType::kBF16, random.Normal(rows, width));
  const BufferId out = AddBuffer(width);
  AddOp(EmbedOp{.table = table, .out = out});
  return out;
}

void TestModel::AddIdentityLogits(BufferId in) {
  const int32_t width = program_.buffers[static_cast<size_t>(in)].width;
  Rows identity(static_cast<size_t>(width), std::vector<double>(static_cast<size_t>(width), 0.0));
  for (size_t i = 0; i < identity.size(); ++i) identity[i][i] = 1;
  const int64_t vocab_size = std::min<int64_t>(width, program_.weights[0].rows);
  AddOp(LogitsOp{.in = in,
                 .table = AddWeight(DType::kBF16, identity),
                 .vocab_size = static_cast<int32_t>(vocab_size)});
}

Rows TestModel::Inputs(const std::vector<int32_t>& tokens) const {
  Rows rows;
  for (const int32_t token : tokens) rows.push_back(values_[0][static_cast<size_t>(token)]);
  return rows;
}

StepTable MakeStep(const std::vector<Feed>& feeds) {
  StepTable table;
  for (const Feed& feed : feeds) {
    table.spans.push_back({.slot = feed.slot,
                           .row = static_cast<int32_t>(table.tokens.size()),
                           .length = static_cast<int32_t>(feed.tokens.size()),
                           .position = feed.position});
    table.tokens.insert(table.tokens.end(), feed.tokens.begin(), feed.tokens.end());
  }
  for (size_t row = 0; row < table.tokens.size(); ++row) {
    table.samples.push_back(
        {.row = static_cast<int32_t>(row), .params = {}, .sample = false, .logits = true});
  }
  return table;
}

absl::StatusOr<std::unique_ptr<Runner>> Runner::Create(const std::string& backend,
                                                       const Program& program, int32_t slots) {
  auto runner = std::make_unique<Runner>();
  BASED_ASSIGN_OR_RETURN(runner->backend_, NewBackend({.kind = backend, .threads = 2}));
  BASED_ASSIGN_OR_RETURN(
      runner->executable_,
      runner->backend_->Compile(program, {.max_rows = 700, .max_spans = 8, .max_samples = 700}));
  BASED_RETURN_IF_ERROR(runner->executable_->CreateSlots(slots));
  return runner;
}

StepOutput Runner::Run(const StepTable& table) {
  StepOutput output;
  const absl::Status launched = executable_->Launch(table);
  EXPECT_TRUE(launched.ok()) << launched;
  if (!launched.ok()) return output;
  const absl::Status collected = executable_->Collect(output);
  EXPECT_TRUE(collected.ok()) << collected;
  return output;
}

Rows Runner::Logits(const std::vector<Feed>& feeds) {
  const StepOutput output = Run(MakeStep(feeds));
  const ptrdiff_t width = executable_->info().padded_vocab_size;
  Rows rows;
  for (auto row = output.logits.begin(); row != output.logits.end(); row += width) {
    rows.emplace_back(row, row + width);
  }
  return rows;
}

Rows Runner::Sequence(const std::vector<int32_t>& tokens, size_t chunk, int64_t position) {
  Clear(0);
  Rows rows;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto first = tokens.begin() + static_cast<ptrdiff_t>(begin);
    const auto last =
        tokens.begin() + static_cast<ptrdiff_t>(std::min(begin + chunk, tokens.size()));
    const Rows part = Logits(
        {{.slot = 0, .position = position + static_cast<int64_t>(begin), .tokens = {first, last}}});
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

void Runner::Clear(int32_t slot) {
  const absl::Status status = executable_->ClearSlots({slot});
  EXPECT_TRUE(status.ok()) << status;
}

std::vector<std::byte> Runner::Export(int32_t slot, int64_t position) {
  std::vector<std::byte> image(static_cast<size_t>(executable_->info().image_bytes));
  const absl::Status status = executable_->ExportSlot(slot, position, absl::MakeSpan(image));
  EXPECT_TRUE(status.ok()) << status;
  return image;
}

void Runner::Import(int32_t slot, int64_t position, const std::vector<std::byte>& image) {
  const absl::Status status = executable_->ImportSlot(slot, position, image);
  EXPECT_TRUE(status.ok()) << status;
}

void ExpectSequence(Runner& runner, const std::string& backend, const std::vector<int32_t>& tokens,
                    const Oracle& expected, double tolerance) {
  const Rows whole = runner.Sequence(tokens, tokens.size());
  ExpectClose(whole, expected, tolerance);
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{33}}) {
    SCOPED_TRACE(absl::StrCat("in chunks of ", chunk));
    const Rows chunked = runner.Sequence(tokens, chunk);
    if (IsSplitInvariant(backend)) {
      ASSERT_EQ(chunked, whole);
    } else {
      ExpectClose(chunked, expected, tolerance);
    }
  }
}

}  // namespace based
