#include "engine/added_tokens.h"

#include <algorithm>
#include <utility>

#include "engine/unicode_class.h"
#include "engine/utf8.h"

namespace based {
namespace {

// The character that ends at `end`; `end` is not 0.
char32_t CharacterBefore(std::string_view text, size_t end, size_t* begin) {
  size_t at = end - 1;
  while ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  *begin = at;
  return FirstCharacter(text.substr(at));
}

bool WordAround(std::string_view text, size_t begin, size_t end) {
  size_t unused;
  if (begin > 0 && IsWordCharacter(CharacterBefore(text, begin, &unused))) return true;
  return end < text.size() && IsWordCharacter(FirstCharacter(text.substr(end)));
}

// Where the whitespace that ends at `end` begins, at or after `limit`.
size_t SkipSpaceBackwards(std::string_view text, size_t end, size_t limit) {
  size_t begin;
  while (end > limit && IsSpace(CharacterBefore(text, end, &begin))) end = begin;
  return std::max(end, limit);
}

size_t SkipSpace(std::string_view text, size_t begin) {
  while (begin < text.size() && IsSpace(FirstCharacter(text.substr(begin)))) {
    begin += ClassifyUtf8(text.substr(begin)).size;
  }
  return begin;
}

}  // namespace

int32_t AddedTokens::Trie::Child(int32_t node, char byte) const {
  for (const auto& [label, child] : nodes_[node].children) {
    if (label == byte) return child;
  }
  return -1;
}

void AddedTokens::Trie::Insert(std::string_view content, int32_t token) {
  const bool first = nodes_.size() == 1;
  if (first) single_start_ = content[0];
  if (single_start_ != content[0]) single_start_.reset();
  starts_[static_cast<uint8_t>(content[0])] = true;
  int32_t node = 0;
  for (const char byte : content) {
    int32_t child = Child(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, child);
      nodes_.emplace_back();
    }
    node = child;
  }
  nodes_[node].token = token;
}

AddedTokens::Trie::Match AddedTokens::Trie::Longest(std::string_view text, size_t begin) const {
  Match match = {begin, begin, -1};
  int32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    node = Child(node, text[at]);
    if (node < 0) break;
    if (nodes_[node].token >= 0) match = {begin, at + 1, nodes_[node].token};
  }
  return match;
}

AddedTokens::Trie::Match AddedTokens::Trie::Next(std::string_view text, size_t from) const {
  if (nodes_.size() == 1) return {0, 0, -1};
  while (from < text.size()) {
    if (single_start_) {
      from = text.find(*single_start_, from);
      if (from == std::string_view::npos) break;
    } else if (!starts_[static_cast<uint8_t>(text[from])]) {
      ++from;
      continue;
    }
    if (const Match match = Longest(text, from); match.token >= 0) return match;
    ++from;
  }
  return {0, 0, -1};
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    Trie& trie = tokens_[i].normalized ? normalized_ : raw_;
    trie.Insert(tokens_[i].content, static_cast<int32_t>(i));
  }
}

void AddedTokens::SplitBy(const Trie& trie, std::string_view text,
                          std::vector<Piece>* pieces) const {
  size_t done = 0;
  Trie::Match match = trie.Next(text, 0);
  for (; match.token >= 0; match = trie.Next(text, match.end)) {
    const AddedToken& token = tokens_[match.token];
    if (token.single_word && WordAround(text, match.begin, match.end)) continue;
    // The space after a token may hold the start of this match, when rstrip swallowed it.
    size_t begin = match.begin;
    size_t end = match.end;
    if (token.lstrip) begin = SkipSpaceBackwards(text, begin, done);
    if (token.rstrip) end = SkipSpace(text, end);
    if (begin > done) pieces->push_back({text.substr(done, begin - done)});
    pieces->push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) pieces->push_back({text.substr(done)});
}

std::vector<AddedTokens::Piece> AddedTokens::Split(std::string_view text) const {
  std::vector<Piece> pieces;
  std::vector<Piece> raw;
  SplitBy(raw_, text, &raw);
  for (const Piece& piece : raw) {
    if (piece.id >= 0) {
      pieces.push_back(piece);
    } else {
      SplitBy(normalized_, piece.text, &pieces);
    }
  }
  return pieces;
}

}  // namespace based
