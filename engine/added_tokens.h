// Tokens that are found in the text before it is split into words: special ones and others that a
// tokenizer file lists under added_tokens.
#ifndef BASED_ENGINE_ADDED_TOKENS_H_
#define BASED_ENGINE_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace based {

struct AddedToken {
  std::string content;  // UTF-8, not empty
  int32_t id = 0;
  bool special = false;      // only matters for decoding: left out when special tokens are skipped
  bool single_word = false;  // not beside a word character
  bool lstrip = false;       // swallows the whitespace before it
  bool rstrip = false;       // swallows the whitespace after it
  bool normalized = true;    // looked for after those that are not: they win where both match
};

// Immutable; safe from many threads.
class AddedTokens {
 public:
  struct Piece {
    std::string_view text;  // the bytes it covers; never empty for plain text
    int32_t id = -1;        // of the added token; -1: plain text
  };

  explicit AddedTokens(std::vector<AddedToken> tokens);

  const std::vector<AddedToken>& tokens() const { return tokens_; }

  // Cuts `text` (valid UTF-8) at the added tokens in it. Leftmost, then longest match.
  std::vector<Piece> Split(std::string_view text) const;

 private:
  // The tokens of one pass over the text, as a trie over bytes.
  class Trie {
   public:
    void Insert(std::string_view content, int32_t token);
    struct Match {
      size_t begin;
      size_t end;
      int32_t token;  // index into tokens_; -1: none
    };
    // The leftmost, longest match that starts at `from` or later.
    Match Next(std::string_view text, size_t from) const;

   private:
    Match Longest(std::string_view text, size_t begin) const;

    struct Node {
      int32_t token = -1;
      std::vector<std::pair<char, int32_t>> children;
    };
    int32_t Child(int32_t node, char byte) const;
    std::vector<Node> nodes_ = std::vector<Node>(1);
    std::array<bool, 256> starts_ = {};  // first bytes, to skip text quickly
    std::optional<char> single_start_;   // the first byte when all tokens share it
  };

  void SplitBy(const Trie& trie, std::string_view text, std::vector<Piece>* pieces) const;

  std::vector<AddedToken> tokens_;
  Trie raw_;         // normalized = false
  Trie normalized_;  // normalized = true
};

}  // namespace based

#endif  // BASED_ENGINE_ADDED_TOKENS_H_
