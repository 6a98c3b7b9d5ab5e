#include "engine/constraint/constraint.h"

#include <utility>

#include "kernels/base/status.h"

namespace based {

absl::StatusOr<std::shared_ptr<const Constraint>> Constraint::Compile(
    const Grammar& grammar, std::shared_ptr<const TokenTrie> trie, const ConstraintLimits& limits) {
  BASED_ASSIGN_OR_RETURN(Automaton automaton,
                         Automaton::Compile(grammar, trie->single_bytes(), limits));
  return std::shared_ptr<const Constraint>(
      new Constraint(std::move(automaton), std::move(trie), limits));
}

Constraint::Constraint(Automaton automaton, std::shared_ptr<const TokenTrie> trie,
                       const ConstraintLimits& limits)
    : limits_(limits),
      automaton_(std::move(automaton)),
      trie_(std::move(trie)),
      masks_(&automaton_, trie_.get(), limits.max_mask_cache_bytes, limits.max_depth) {}

int64_t Constraint::bytes() const {
  return static_cast<int64_t>(sizeof(*this)) + automaton_.table_bytes() + masks_.bytes();
}

ConstraintMatcher::ConstraintMatcher(std::shared_ptr<const Constraint> constraint)
    : constraint_(std::move(constraint)),
      readings_(&constraint_->automaton_, constraint_->limits_.max_depth,
                constraint_->limits_.max_readings) {}

absl::Span<const uint32_t> ConstraintMatcher::Mask() {
  if (mask_ == nullptr) {
    mask_ = ended_ ? std::make_shared<const TokenMask>(constraint_->trie_->mask_words(), 0)
                   : constraint_->masks_.MaskOf(readings_);
  }
  return *mask_;
}

bool ConstraintMatcher::Accept(int32_t token) {
  if (ended_) return false;
  const TokenTrie& trie = *constraint_->trie_;
  if (token == trie.eos_token_id() && token != TokenTrie::kNoToken) {
    if (!readings_.may_end()) return false;
    ended_ = true;
  } else {
    const std::string_view bytes = trie.Bytes(token);
    if (bytes.empty() || !readings_.Read(bytes)) return false;
    readings_.Compact();
  }
  mask_ = nullptr;
  return true;
}

std::string ConstraintMatcher::ForcedBytes(size_t max) const {
  std::string forced;
  if (ended_ || readings_.may_end() || readings_.NextBytes().count() != 1) return forced;
  Readings ahead = readings_;
  while (forced.size() < max && !ahead.may_end()) {
    const ByteSet next = ahead.NextBytes();
    if (next.count() != 1) break;
    const auto byte = static_cast<char>(next._Find_first());
    if (!ahead.Read(std::string_view(&byte, 1))) break;
    forced.push_back(byte);
  }
  return forced;
}

}  // namespace based
