// Helpers of the tests that run over every backend.
//
// An op is tested through the seam alone: Embed (a table of random rows, so that a token id chooses
// any input row), the op, and Logits with an identity table, whose raw logits are the op's output.
// Each result is compared with a formula written out in the test in double.
//
// Tolerances. An oracle returns for each value its magnitude: the same formula over absolute
// values, which bounds how far relative errors of the inputs and intermediate results can move the
// value. A backend whose numbers carry the relative error u then errs by about u * magnitude times
// the growth of rounding errors, sqrt(n) for n terms summed in any order when the errors are
// independent. Tolerance() gives that factor with a margin of 4, plus 8 roundings of single
// operations (loads, exp, divisions, stores).
#ifndef BASED_TESTS_KERNELS_OP_FIXTURE_H_
#define BASED_TESTS_KERNELS_OP_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/program.h"

namespace based {

using Rows = std::vector<std::vector<double>>;

// The backends of this build.
std::vector<std::string> TestBackends();

// Relative error of one rounding of the type that the backend keeps activations in.
double UnitRoundoff(const std::string& backend);

// Allowed error per unit of magnitude, for sums over `terms` values.
double Tolerance(const std::string& backend, int64_t terms);

// Whether results may not depend on how a sequence was cut into spans and batched, to the bit.
bool IsSplitInvariant(const std::string& backend);

struct Oracle {
  Rows values;
  Rows magnitudes;
};

// Fails the test where |actual - values| > tolerance * magnitudes.
void ExpectClose(const Rows& actual, const Oracle& expected, double tolerance);

// Random numbers with a fixed seed.
class RandomData {
 public:
  explicit RandomData(uint64_t seed) : engine_(seed) {}
  Rows Normal(int64_t rows, int64_t cols, double scale = 1);
  std::vector<int32_t> Ids(int64_t count, int32_t below);

 private:
  std::mt19937_64 engine_;
};

// A Program and the memory of its weights.
class TestModel {
 public:
  // Rounds `values` to `dtype`. REQUIRES: values representable without overflow.
  WeightId AddWeight(DType dtype, const Rows& values);
  BufferId AddBuffer(int32_t width, bool residual = false);
  void AddOp(Op op) { program_.ops.push_back(std::move(op)); }

  // Embed from a new table of `rows` random rows that bf16 holds exactly. Returns the buffer.
  BufferId AddInput(RandomData& random, int32_t rows, int32_t width);
  // Logits with an identity table: raw logits are the rows of `in`.
  void AddIdentityLogits(BufferId in);

  const Program& program() const { return program_; }
  Program& program() { return program_; }
  // The weight's values after rounding.
  const Rows& values(WeightId id) const { return values_[static_cast<size_t>(id)]; }
  // The input rows of these tokens: their rows of the first weight, which AddInput made.
  Rows Inputs(const std::vector<int32_t>& tokens) const;

 private:
  Program program_;
  std::deque<Rows> values_;
  std::deque<std::vector<uint8_t>> storage_;
};

// Consecutive tokens of one slot.
struct Feed {
  int32_t slot = 0;
  int64_t position = 0;
  std::vector<int32_t> tokens;
};

// One step of these spans that asks for the raw logits of every row and draws nothing.
StepTable MakeStep(const std::vector<Feed>& feeds);

// A compiled program on one backend with its slots.
class Runner {
 public:
  static absl::StatusOr<std::unique_ptr<Runner>> Create(const std::string& backend,
                                                        const Program& program, int32_t slots = 4);

  Executable& executable() { return *executable_; }
  StepOutput Run(const StepTable& table);
  // Raw logits of every row of one step.
  Rows Logits(const std::vector<Feed>& feeds);
  // Raw logits of a sequence of slot 0, cleared before, cut into steps of at most `chunk` tokens.
  Rows Sequence(const std::vector<int32_t>& tokens, size_t chunk, int64_t position = 0);
  void Clear(int32_t slot);
  std::vector<std::byte> Export(int32_t slot, int64_t position);
  void Import(int32_t slot, int64_t position, const std::vector<std::byte>& image);

 private:
  // The backend outlives its executable.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executable> executable_;
};

// Declares `runner`, or skips the test visibly where the backend has no device or no such shape.
#define BASED_MAKE_RUNNER(runner, backend, program)                                               \
  auto runner##_or = Runner::Create(backend, program);                                            \
  if (absl::IsUnavailable(runner##_or.status()) || absl::IsUnimplemented(runner##_or.status())) { \
    GTEST_SKIP() << runner##_or.status();                                                         \
  }                                                                                               \
  ASSERT_TRUE(runner##_or.ok()) << runner##_or.status();                                          \
  Runner& runner = **runner##_or

// Runs the whole sequence at once and compares it with the oracle; then token by token and in odd
// chunks, which must agree to the bit or, where a backend does not promise that, with the oracle.
void ExpectSequence(Runner& runner, const std::string& backend, const std::vector<int32_t>& tokens,
                    const Oracle& expected, double tolerance);

}  // namespace based

#endif  // BASED_TESTS_KERNELS_OP_FIXTURE_H_
