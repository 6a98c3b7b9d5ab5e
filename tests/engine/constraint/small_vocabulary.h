// A tokenizer that is a list of texts, for tests of masks.
#ifndef BASED_TESTS_ENGINE_CONSTRAINT_SMALL_VOCABULARY_H_
#define BASED_TESTS_ENGINE_CONSTRAINT_SMALL_VOCABULARY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/constraint/token_trie.h"
#include "engine/tokenizer.h"
#include "kernels/base/check.h"

namespace based {

class SmallVocabulary : public Tokenizer {
 public:
  explicit SmallVocabulary(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view) const override {
    return absl::UnimplementedError("masks need no encoding");
  }
  std::string_view Bytes(int32_t id, bool /*skip_special*/) const override { return tokens_[id]; }
  int32_t size() const override { return static_cast<int32_t>(tokens_.size()); }

 private:
  std::vector<std::string> tokens_;
};

// All 256 bytes (a token's id is its byte), then `more`, then the end-of-text token.
inline std::shared_ptr<const TokenTrie> ByteTrie(const std::vector<std::string>& more) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), more.begin(), more.end());
  const auto eos = static_cast<int32_t>(tokens.size());
  tokens.emplace_back();
  auto trie = TokenTrie::Create(SmallVocabulary(std::move(tokens)), eos + 1, eos);
  BASED_CHECK(trie.ok());
  return *std::move(trie);
}

}  // namespace based

#endif  // BASED_TESTS_ENGINE_CONSTRAINT_SMALL_VOCABULARY_H_
