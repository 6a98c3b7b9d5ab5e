#include "kernels/program_check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr const char* kOpNames[] = {"Embed",     "Norm",      "Linear", "ConvMix",
                                    "TaylorMix", "WindowMix", "Logits"};

// Checks one op after another and remembers which buffers have been written.
class ProgramChecker {
 public:
  ProgramChecker(const Program& program, bool allow_synthetic)
      : program_(program),
        allow_synthetic_(allow_synthetic),
        written_(program.buffers.size(), false) {}

  absl::Status Check();

 private:
  absl::Status CheckTables() const;

  absl::Status CheckOp(const EmbedOp& op);
  absl::Status CheckOp(const NormOp& op);
  absl::Status CheckOp(const LinearOp& op);
  absl::Status CheckOp(const ConvMixOp& op);
  absl::Status CheckOp(const TaylorMixOp& op);
  absl::Status CheckOp(const WindowMixOp& op);
  absl::Status CheckOp(const LogitsOp& op);

  absl::Status Reads(BufferId id) const;
  absl::Status Writes(BufferId id, BufferId in);
  absl::Status BufferWidth(const char* role, BufferId id, int64_t expected) const;
  absl::Status HasWeight(const char* role, WeightId id) const;
  absl::Status WeightShape(const char* role, WeightId id, int64_t rows, int64_t cols) const;
  absl::Status AtLeast(const char* field, int64_t value, int64_t least) const;
  absl::Status CheckEps(double eps) const;

  absl::Status Wrong(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("op ", index_, " (", kOpNames[kind_], "): ", what));
  }
  int64_t width(BufferId id) const { return program_.buffers[static_cast<size_t>(id)].width; }
  const WeightView& weight(WeightId id) const { return program_.weights[static_cast<size_t>(id)]; }

  const Program& program_;
  const bool allow_synthetic_;
  std::vector<bool> written_;
  size_t index_ = 0;
  size_t kind_ = 0;
  int64_t embed_rows_ = std::numeric_limits<int64_t>::max();
};

absl::Status ProgramChecker::Check() {
  BASED_RETURN_IF_ERROR(CheckTables());
  for (index_ = 0; index_ < program_.ops.size(); ++index_) {
    const Op& op = program_.ops[index_];
    kind_ = op.index();
    const bool last = index_ + 1 == program_.ops.size();
    if (last != std::holds_alternative<LogitsOp>(op)) {
      return Wrong("the last op, and no other, must be Logits");
    }
    BASED_RETURN_IF_ERROR(std::visit([this](const auto& typed) { return CheckOp(typed); }, op));
  }
  return absl::OkStatus();
}

absl::Status ProgramChecker::CheckTables() const {
  if (program_.ops.empty()) return absl::InvalidArgumentError("the program has no ops");
  if (program_.spare_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("spare_tokens is ", program_.spare_tokens, ", expected at least 0"));
  }
  for (size_t i = 0; i < program_.buffers.size(); ++i) {
    if (program_.buffers[i].width < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "buffer ", i, " is ", program_.buffers[i].width, " wide, expected at least 1"));
    }
  }
  for (const WeightView& view : program_.weights) {
    const bool synthetic = allow_synthetic_ && view.synthetic_stddev > 0;
    if ((view.data == nullptr && !synthetic) || view.rows < 1 || view.cols < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("weight \"", view.name, "\" is [", view.rows, ", ", view.cols, "]",
                       view.data == nullptr ? " with no data" : "",
                       ", expected values (only the cuda backend makes synthetic ones)"));
    }
  }
  return absl::OkStatus();
}

absl::Status ProgramChecker::Reads(BufferId id) const {
  if (id < 0 || static_cast<size_t>(id) >= program_.buffers.size()) {
    return Wrong(absl::StrCat("input buffer ", id, " is not one of ", program_.buffers.size()));
  }
  if (!written_[static_cast<size_t>(id)]) {
    return Wrong(absl::StrCat("reads buffer ", id, ", which no earlier op writes"));
  }
  return absl::OkStatus();
}

absl::Status ProgramChecker::Writes(BufferId id, BufferId in) {
  if (id < 0 || static_cast<size_t>(id) >= program_.buffers.size()) {
    return Wrong(absl::StrCat("output buffer ", id, " is not one of ", program_.buffers.size()));
  }
  if (id == in) return Wrong(absl::StrCat("buffer ", id, " is both input and output"));
  written_[static_cast<size_t>(id)] = true;
  return absl::OkStatus();
}

absl::Status ProgramChecker::BufferWidth(const char* role, BufferId id, int64_t expected) const {
  if (width(id) == expected) return absl::OkStatus();
  return Wrong(absl::StrCat(role, " buffer ", id, " is ", width(id), " wide, expected ", expected));
}

absl::Status ProgramChecker::HasWeight(const char* role, WeightId id) const {
  if (id >= 0 && static_cast<size_t>(id) < program_.weights.size()) return absl::OkStatus();
  return Wrong(absl::StrCat(role, " weight ", id, " is not one of ", program_.weights.size()));
}

absl::Status ProgramChecker::WeightShape(const char* role, WeightId id, int64_t rows,
                                         int64_t cols) const {
  BASED_RETURN_IF_ERROR(HasWeight(role, id));
  const WeightView& view = weight(id);
  if (view.rows == rows && view.cols == cols) return absl::OkStatus();
  return Wrong(absl::StrCat(role, " weight \"", view.name, "\" is [", view.rows, ", ", view.cols,
                            "], expected [", rows, ", ", cols, "]"));
}

absl::Status ProgramChecker::AtLeast(const char* field, int64_t value, int64_t least) const {
  if (value >= least) return absl::OkStatus();
  return Wrong(absl::StrCat(field, " is ", value, ", expected at least ", least));
}

absl::Status ProgramChecker::CheckEps(double eps) const {
  if (std::isfinite(eps) && eps >= 0) return absl::OkStatus();
  return Wrong(absl::StrCat("eps is ", eps, ", expected a finite number of at least 0"));
}

absl::Status ProgramChecker::CheckOp(const EmbedOp& op) {
  BASED_RETURN_IF_ERROR(Writes(op.out, kNone));
  BASED_RETURN_IF_ERROR(HasWeight("table", op.table));
  embed_rows_ = std::min(embed_rows_, weight(op.table).rows);
  return WeightShape("table", op.table, weight(op.table).rows, width(op.out));
}

absl::Status ProgramChecker::CheckOp(const NormOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  BASED_RETURN_IF_ERROR(Writes(op.out, op.in));
  BASED_RETURN_IF_ERROR(CheckEps(op.eps));
  BASED_RETURN_IF_ERROR(BufferWidth("output", op.out, width(op.in)));
  return WeightShape("norm", op.weight, 1, width(op.in));
}

absl::Status ProgramChecker::CheckOp(const LinearOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  if (op.epilogue == Epilogue::kAdd) BASED_RETURN_IF_ERROR(Reads(op.out));
  BASED_RETURN_IF_ERROR(Writes(op.out, op.in));
  if (op.weights.empty()) return Wrong("has no weights");
  int64_t rows = 0;
  for (const WeightId id : op.weights) {
    BASED_RETURN_IF_ERROR(HasWeight("linear", id));
    BASED_RETURN_IF_ERROR(WeightShape("linear", id, weight(id).rows, width(op.in)));
    rows += weight(id).rows;
  }
  if (op.bias != kNone) BASED_RETURN_IF_ERROR(WeightShape("bias", op.bias, 1, rows));
  if (op.epilogue != Epilogue::kSwiGlu) return BufferWidth("output", op.out, rows);
  if (rows % 2 != 0)
    return Wrong(absl::StrCat("SwiGLU over ", rows, " rows, expected an even number"));
  return BufferWidth("output", op.out, rows / 2);
}

absl::Status ProgramChecker::CheckOp(const ConvMixOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  BASED_RETURN_IF_ERROR(Writes(op.out, op.in));
  BASED_RETURN_IF_ERROR(AtLeast("channels", op.channels, 1));
  BASED_RETURN_IF_ERROR(AtLeast("kernel", op.kernel, 1));
  const int64_t channels = op.channels;
  BASED_RETURN_IF_ERROR(BufferWidth("input", op.in, 2 * channels));
  BASED_RETURN_IF_ERROR(BufferWidth("output", op.out, channels));
  return WeightShape("taps", op.taps, channels, op.kernel);
}

absl::Status ProgramChecker::CheckOp(const TaylorMixOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  BASED_RETURN_IF_ERROR(Writes(op.out, op.in));
  BASED_RETURN_IF_ERROR(AtLeast("heads", op.heads, 1));
  BASED_RETURN_IF_ERROR(AtLeast("feature_dim", op.feature_dim, 1));
  BASED_RETURN_IF_ERROR(AtLeast("head_dim", op.head_dim, 1));
  BASED_RETURN_IF_ERROR(CheckEps(op.eps));
  const int64_t heads = op.heads;
  const int64_t in_width = heads * (2 * int64_t{op.feature_dim} + op.head_dim);
  BASED_RETURN_IF_ERROR(BufferWidth("input", op.in, in_width));
  return BufferWidth("output", op.out, heads * op.head_dim);
}

absl::Status ProgramChecker::CheckOp(const WindowMixOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  BASED_RETURN_IF_ERROR(Writes(op.out, op.in));
  BASED_RETURN_IF_ERROR(AtLeast("heads", op.heads, 1));
  BASED_RETURN_IF_ERROR(AtLeast("head_dim", op.head_dim, 2));
  BASED_RETURN_IF_ERROR(AtLeast("window_left", op.window_left, 0));
  if (op.head_dim % 2 != 0) {
    return Wrong(absl::StrCat("head_dim is ", op.head_dim, ", expected an even number"));
  }
  if (!std::isfinite(op.rope_base) || op.rope_base < 1) {
    return Wrong(absl::StrCat("rope_base is ", op.rope_base, ", expected a number of at least 1"));
  }
  const int64_t values = int64_t{op.heads} * op.head_dim;
  BASED_RETURN_IF_ERROR(BufferWidth("input", op.in, 3 * values));
  return BufferWidth("output", op.out, values);
}

absl::Status ProgramChecker::CheckOp(const LogitsOp& op) {
  BASED_RETURN_IF_ERROR(Reads(op.in));
  BASED_RETURN_IF_ERROR(CheckEps(op.eps));
  BASED_RETURN_IF_ERROR(HasWeight("table", op.table));
  const WeightView& table = weight(op.table);
  BASED_RETURN_IF_ERROR(WeightShape("table", op.table, table.rows, width(op.in)));
  if (op.norm_weight != kNone) {
    BASED_RETURN_IF_ERROR(WeightShape("norm", op.norm_weight, 1, width(op.in)));
  }
  // A drawn id is the next step's input, so every embedding table must have its row.
  const int64_t most =
      std::min<int64_t>({table.rows, embed_rows_, std::numeric_limits<int32_t>::max()});
  if (op.vocab_size < 1 || op.vocab_size > most) {
    return Wrong(absl::StrCat("vocab_size is ", op.vocab_size, ", expected 1 to ", most,
                              ", the rows of the tables"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckProgram(const Program& program, bool allow_synthetic) {
  return ProgramChecker(program, allow_synthetic).Check();
}

int64_t EmbedRows(const Program& program) {
  int64_t rows = std::numeric_limits<int64_t>::max();
  for (const Op& op : program.ops) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) {
      rows = std::min(rows, program.weights[static_cast<size_t>(embed->table)].rows);
    }
  }
  return rows;
}

const LogitsOp& FinalLogits(const Program& program) {
  return std::get<LogitsOp>(program.ops.back());
}

}  // namespace based
