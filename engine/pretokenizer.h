// Cuts text into the words that byte-pair merges never cross, as Hugging Face's pre_tokenizer does.
#ifndef BASED_ENGINE_PRETOKENIZER_H_
#define BASED_ENGINE_PRETOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace based {

// One step of the chain; each splits the pieces of the one before.
struct SplitStage {
  std::string pattern;  // a Hugging Face regular expression, or a literal
  bool literal = false;
  bool drop_between = false;  // keep the matches only; otherwise what lies between is a piece too
  bool prefix_space = false;  // a space is put before pieces that do not start with one, first
};

// Immutable; safe from many threads.
class Pretokenizer {
 public:
  using Emit = absl::FunctionRef<void(std::string_view word)>;

  // INVALID_ARGUMENT naming pattern, offset and reason.
  static absl::StatusOr<Pretokenizer> Create(const std::vector<SplitStage>& stages);
  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;
  ~Pretokenizer();

  // Calls `emit` for each non-empty word of `text` (valid UTF-8), in order; a word lives as long as
  // the call. INVALID_ARGUMENT when a pattern exceeds PCRE2's limits on this text.
  absl::Status Split(std::string_view text, Emit emit) const;

 private:
  class Stage;
  Pretokenizer();
  absl::Status SplitFrom(size_t stage, std::string_view text, Emit emit) const;

  std::vector<Stage> stages_;
};

}  // namespace based

#endif  // BASED_ENGINE_PRETOKENIZER_H_
