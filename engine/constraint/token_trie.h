// A tokenizer's vocabulary as a tree over bytes: what masks are computed from. Immutable; one per
// model, shared by all its constraints.
#ifndef BASED_ENGINE_CONSTRAINT_TOKEN_TRIE_H_
#define BASED_ENGINE_CONSTRAINT_TOKEN_TRIE_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/constraint/grammar.h"
#include "engine/tokenizer.h"

namespace based {

class TokenTrie {
 public:
  static constexpr int32_t kNoToken = -1;

  // A node is its index in depth-first order with children by ascending byte; 0 is the root.
  struct Node {
    int32_t end;          // one past the last node below this one
    int32_t first_token;  // in Tokens, of the first at or below this node
    int16_t depth;        // bytes from the root
    int16_t height;       // bytes from here to the furthest node below
    uint8_t byte;         // the last of them
  };

  // Tokens of `tokenizer` below `vocab_size` (that of the model's output; more ids than the
  // tokenizer has never match). `eos_token_id` stands for the end of the text, or kNoToken. It, the
  // special tokens, those without bytes and those of more than 32,767 bytes never match as text.
  // INVALID_ARGUMENT when an argument is out of range or no token is left.
  static absl::StatusOr<std::shared_ptr<const TokenTrie>> Create(const Tokenizer& tokenizer,
                                                                 int32_t vocab_size,
                                                                 int32_t eos_token_id);

  int32_t vocab_size() const { return vocab_size_; }
  int32_t eos_token_id() const { return eos_token_id_; }
  size_t mask_words() const { return (static_cast<size_t>(vocab_size_) + 31) / 32; }

  // "" for tokens that never match.
  std::string_view Bytes(int32_t token) const;

  // Bytes that are tokens of their own. Texts of these alone can always be spelled to the end, so
  // grammars are narrowed to them.
  const ByteSet& single_bytes() const { return single_bytes_; }

  const std::vector<Node>& nodes() const { return nodes_; }
  // Tokens that are exactly the bytes of `node`, and those with all the tokens below.
  absl::Span<const int32_t> TokensAt(int32_t node) const;
  absl::Span<const int32_t> TokensFrom(int32_t node) const;
  // Tokens of one byte.
  absl::Span<const int32_t> TokensOfByte(uint8_t byte) const;

  // Bytes as a set of 128 places: those of ASCII, and all others together at one of them.
  struct Folded {
    uint64_t low = 0;
    uint64_t high = 0;
    bool Within(const Folded& other) const {
      return (low & ~other.low) == 0 && (high & ~other.high) == 0;
    }
    bool Meets(const Folded& other) const {
      return (low & other.low) != 0 || (high & other.high) != 0;
    }
  };
  // The places of which `bytes` have all, and those of which they have one.
  static Folded FoldWhole(const ByteSet& bytes);
  static Folded FoldAny(const ByteSet& bytes);
  // FoldAny of the bytes of all nodes below.
  const Folded& BytesBelow(int32_t node) const { return below_[node]; }

 private:
  TokenTrie() = default;
  void Build(const std::vector<int32_t>& sorted);
  int32_t AddNode(int16_t depth, uint8_t byte);

  int32_t vocab_size_ = 0;
  int32_t eos_token_id_ = kNoToken;
  std::string text_;             // the bytes of all tokens
  std::vector<size_t> offsets_;  // of each token in it, and the end
  std::vector<Node> nodes_;      // with a last one that is no node, to end the others
  std::vector<Folded> below_;
  std::vector<int32_t> tokens_;     // by ascending bytes: in the order of the nodes
  std::vector<int32_t> byte_node_;  // the node of each first byte, or -1
  ByteSet single_bytes_;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_TOKEN_TRIE_H_
