#include "engine/constraint/token_trie.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace based {
namespace {

constexpr size_t kLongestToken = std::numeric_limits<int16_t>::max();
// Where bytes that are not ASCII are folded to.
constexpr size_t kOtherBytes = 0;

void Set(size_t place, TokenTrie::Folded* folded) {
  (place < 64 ? folded->low : folded->high) |= uint64_t{1} << (place % 64);
}

}  // namespace

TokenTrie::Folded TokenTrie::FoldWhole(const ByteSet& bytes) {
  Folded folded;
  for (size_t byte = 0; byte < 128; ++byte) {
    if (byte != kOtherBytes && bytes[byte]) Set(byte, &folded);
  }
  if (bytes[kOtherBytes] && (bytes >> 128).count() == 128) Set(kOtherBytes, &folded);
  return folded;
}

TokenTrie::Folded TokenTrie::FoldAny(const ByteSet& bytes) {
  Folded folded;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (bytes[byte]) Set(byte < 128 ? byte : kOtherBytes, &folded);
  }
  return folded;
}

absl::StatusOr<std::shared_ptr<const TokenTrie>> TokenTrie::Create(const Tokenizer& tokenizer,
                                                                   int32_t vocab_size,
                                                                   int32_t eos_token_id) {
  if (vocab_size <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocab_size: ", vocab_size, ", expected a positive number"));
  }
  if (eos_token_id != kNoToken && (eos_token_id < 0 || eos_token_id >= vocab_size)) {
    return absl::InvalidArgumentError(absl::StrCat("eos_token_id: ", eos_token_id,
                                                   ", expected one below vocab_size ", vocab_size));
  }
  std::shared_ptr<TokenTrie> trie(new TokenTrie());
  trie->vocab_size_ = vocab_size;
  trie->eos_token_id_ = eos_token_id;
  std::vector<int32_t> sorted;
  for (int32_t token = 0; token < vocab_size; ++token) {
    trie->offsets_.push_back(trie->text_.size());
    if (token >= tokenizer.size() || token == eos_token_id) continue;
    const std::string_view bytes = tokenizer.Bytes(token, /*skip_special=*/true);
    if (bytes.empty() || bytes.size() > kLongestToken) continue;
    trie->text_ += bytes;
    sorted.push_back(token);
  }
  trie->offsets_.push_back(trie->text_.size());
  if (sorted.empty()) return absl::InvalidArgumentError("tokenizer: no token has bytes");
  std::sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
    const int order = trie->Bytes(a).compare(trie->Bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  trie->Build(sorted);
  return std::shared_ptr<const TokenTrie>(std::move(trie));
}

int32_t TokenTrie::AddNode(int16_t depth, uint8_t byte) {
  nodes_.push_back({0, static_cast<int32_t>(tokens_.size()), depth, 0, byte});
  return static_cast<int32_t>(nodes_.size() - 1);
}

void TokenTrie::Build(const std::vector<int32_t>& sorted) {
  byte_node_.assign(256, -1);
  std::vector<int32_t> path = {AddNode(0, 0)};
  const auto close_to = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) {
      nodes_[path.back()].end = static_cast<int32_t>(nodes_.size());
    }
  };
  std::string_view before;
  for (const int32_t token : sorted) {
    const std::string_view bytes = Bytes(token);
    size_t common = 0;
    while (common < std::min(before.size(), bytes.size()) && before[common] == bytes[common]) {
      ++common;
    }
    close_to(common);
    for (size_t i = common; i < bytes.size(); ++i) {
      path.push_back(AddNode(static_cast<int16_t>(i + 1), static_cast<uint8_t>(bytes[i])));
    }
    if (common == 0) byte_node_[static_cast<uint8_t>(bytes[0])] = path[1];
    if (bytes.size() == 1) single_bytes_.set(static_cast<uint8_t>(bytes[0]));
    tokens_.push_back(token);
    before = bytes;
  }
  close_to(0);
  nodes_[0].end = static_cast<int32_t>(nodes_.size());
  below_.resize(nodes_.size());
  for (size_t n = nodes_.size(); n-- > 0;) {
    for (int32_t child = static_cast<int32_t>(n) + 1; child < nodes_[n].end;
         child = nodes_[child].end) {
      nodes_[n].height = std::max(nodes_[n].height, static_cast<int16_t>(nodes_[child].height + 1));
      below_[n].low |= below_[child].low;
      below_[n].high |= below_[child].high;
      Set(nodes_[child].byte < 128 ? nodes_[child].byte : kOtherBytes, &below_[n]);
    }
  }
  const int32_t past = AddNode(0, 0);
  nodes_[past].end = past;
}

std::string_view TokenTrie::Bytes(int32_t token) const {
  if (token < 0 || token >= vocab_size_) return {};
  return std::string_view(text_).substr(offsets_[token], offsets_[token + 1] - offsets_[token]);
}

absl::Span<const int32_t> TokenTrie::TokensAt(int32_t node) const {
  // Those below begin with the first child, which is the next node (or the node behind).
  const int32_t first = nodes_[node].first_token;
  return absl::MakeConstSpan(tokens_.data() + first,
                             static_cast<size_t>(nodes_[node + 1].first_token - first));
}

absl::Span<const int32_t> TokenTrie::TokensFrom(int32_t node) const {
  const int32_t first = nodes_[node].first_token;
  return absl::MakeConstSpan(tokens_.data() + first,
                             static_cast<size_t>(nodes_[nodes_[node].end].first_token - first));
}

absl::Span<const int32_t> TokenTrie::TokensOfByte(uint8_t byte) const {
  if (byte_node_[byte] < 0) return {};
  return TokensAt(byte_node_[byte]);
}

}  // namespace based
