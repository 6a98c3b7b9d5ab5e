#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/pretokenizer.h"

#include <pcre2.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/split_pattern.h"
#include "kernels/base/status.h"

namespace based {
namespace {

struct FreePcre2 {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, FreePcre2>;

std::string Pcre2Error(int code) {
  PCRE2_UCHAR message[256];
  pcre2_get_error_message(code, message, sizeof(message));
  return reinterpret_cast<const char*>(message);
}

PCRE2_SPTR Units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

absl::StatusOr<Code> Compile(const SplitStage& stage) {
  std::string pattern = stage.pattern;
  uint32_t options = PCRE2_UTF | PCRE2_UCP;
  if (stage.literal) {
    options = PCRE2_UTF | PCRE2_LITERAL;
  } else {
    BASED_ASSIGN_OR_RETURN(pattern, ToPcre2Pattern(stage.pattern));
  }
  const std::unique_ptr<pcre2_compile_context, FreePcre2> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(Units(pattern), pattern.size(), options, &error, &offset, context.get()));
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("offset %d of its PCRE2 form: %s", offset, Pcre2Error(error)));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) return absl::InvalidArgumentError("it may match the empty string");
  // Without a JIT for this machine PCRE2 interprets the pattern: slower, the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

}  // namespace

class Pretokenizer::Stage {
 public:
  Stage(const SplitStage& spec, Code code)
      : drop_between_(spec.drop_between),
        prefix_space_(spec.prefix_space),
        code_(std::move(code)) {}

  bool needs_prefix(std::string_view text) const { return prefix_space_ && text[0] != ' '; }

  // Calls `piece` (std::string_view -> absl::Status) for each non-empty piece.
  template <typename Piece>
  absl::Status Split(std::string_view text, Piece piece) const {
    if (code_ == nullptr) return piece(text);
    const std::unique_ptr<pcre2_match_data, FreePcre2> match(pcre2_match_data_create(1, nullptr));
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(match.get());
    size_t done = 0;
    while (done < text.size()) {
      const int count = pcre2_match(code_.get(), Units(text), text.size(), done, PCRE2_NO_UTF_CHECK,
                                    match.get(), nullptr);
      if (count == PCRE2_ERROR_NOMATCH) break;
      if (count < 0) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "text at byte %d: the tokenizer's split pattern fails: %s", done, Pcre2Error(count)));
      }
      if (bounds[0] > done && !drop_between_) {
        BASED_RETURN_IF_ERROR(piece(text.substr(done, bounds[0] - done)));
      }
      BASED_RETURN_IF_ERROR(piece(text.substr(bounds[0], bounds[1] - bounds[0])));
      done = bounds[1];
    }
    if (done < text.size() && !drop_between_) return piece(text.substr(done));
    return absl::OkStatus();
  }

 private:
  bool drop_between_;
  bool prefix_space_;
  Code code_;  // null: the text is one piece
};

Pretokenizer::Pretokenizer() = default;
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;
Pretokenizer::~Pretokenizer() = default;

absl::StatusOr<Pretokenizer> Pretokenizer::Create(const std::vector<SplitStage>& stages) {
  Pretokenizer pretokenizer;
  for (const SplitStage& stage : stages) {
    Code code;
    if (!stage.pattern.empty()) {
      absl::StatusOr<Code> compiled = Compile(stage);
      if (!compiled.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("split pattern \"", stage.pattern, "\": ", compiled.status().message()));
      }
      code = *std::move(compiled);
    }
    pretokenizer.stages_.emplace_back(stage, std::move(code));
  }
  return pretokenizer;
}

absl::Status Pretokenizer::Split(std::string_view text, Emit emit) const {
  if (text.empty()) return absl::OkStatus();
  return SplitFrom(0, text, emit);
}

absl::Status Pretokenizer::SplitFrom(size_t stage, std::string_view text, Emit emit) const {
  if (stage == stages_.size()) {
    emit(text);
    return absl::OkStatus();
  }
  std::string prefixed;
  if (stages_[stage].needs_prefix(text)) text = prefixed = std::string(" ").append(text);
  return stages_[stage].Split(
      text, [&](std::string_view piece) { return SplitFrom(stage + 1, piece, emit); });
}

}  // namespace based
