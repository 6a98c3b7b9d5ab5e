#include "engine/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/added_tokens.h"
#include "engine/byte_level_bpe.h"
#include "engine/pretokenizer.h"
#include "engine/tokenizer_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(const TokenizerSpec& spec, Pretokenizer pretokenizer)
      : added_tokens_(spec.added_tokens), pretokenizer_(std::move(pretokenizer)), bpe_(spec.model) {
    for (const auto& [bytes, id] : spec.model.vocabulary) Entry(id).bytes = bytes;
    for (const AddedToken& token : spec.added_tokens) {
      Token& entry = Entry(token.id);
      // One that the model's vocabulary has too may also come out of the merges.
      if (entry.bytes.empty()) entry.bytes = token.content;
      entry.special = token.special;
    }
  }

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    if (const size_t offset = FindInvalidUtf8(text); offset != std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrFormat("text at byte %d: 0x%02x is not valid UTF-8", offset,
                          static_cast<uint8_t>(text[offset])));
    }
    std::vector<int32_t> ids;
    for (const AddedTokens::Piece& piece : added_tokens_.Split(text)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      BASED_RETURN_IF_ERROR(pretokenizer_.Split(
          piece.text, [&](std::string_view word) { bpe_.EncodeWord(word, &ids); }));
    }
    return ids;
  }

  std::string_view Bytes(int32_t id, bool skip_special) const override {
    if (id < 0 || id >= size()) return {};
    const Token& token = tokens_[id];
    return skip_special && token.special ? std::string_view() : std::string_view(token.bytes);
  }

  int32_t size() const override { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct Token {
    std::string bytes;
    bool special = false;
  };

  Token& Entry(int32_t id) {
    if (id >= size()) tokens_.resize(id + 1);
    return tokens_[id];
  }

  std::vector<Token> tokens_;  // by id; ids between may be unused
  AddedTokens added_tokens_;
  Pretokenizer pretokenizer_;
  ByteLevelBpe bpe_;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const TokenizerSpec& spec,
                                                         const std::string& path) {
  absl::StatusOr<Pretokenizer> pretokenizer = Pretokenizer::Create(spec.stages);
  if (!pretokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": pre_tokenizer: ", pretokenizer.status().message()));
  }
  return std::make_unique<BpeTokenizer>(spec, *std::move(pretokenizer));
}

// nullopt when there is no such file.
absl::StatusOr<std::optional<std::string>> ReadIfPresent(const std::filesystem::path& path) {
  constexpr uintmax_t kMaxBytes = uintmax_t{256} << 20;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", error.message()));
  }
  if (size > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: has %d bytes, expected at most %d", path.string(), size, kMaxBytes));
  }
  std::string content(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(content.data(), static_cast<std::streamsize>(size))) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": cannot be read"));
  }
  return content;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& dir) {
  const std::filesystem::path folder(dir);
  const std::string json_path = folder / "tokenizer.json";
  BASED_ASSIGN_OR_RETURN(const auto json, ReadIfPresent(json_path));
  if (json) return FromJson(*json, json_path);
  const std::string vocab_path = folder / "vocab.json";
  const std::string merges_path = folder / "merges.txt";
  BASED_ASSIGN_OR_RETURN(const auto vocab, ReadIfPresent(vocab_path));
  BASED_ASSIGN_OR_RETURN(const auto merges, ReadIfPresent(merges_path));
  if (!vocab || !merges) {
    return absl::NotFoundError(
        absl::StrCat(dir, ": expected tokenizer.json, or vocab.json with merges.txt"));
  }
  BASED_ASSIGN_OR_RETURN(const TokenizerSpec spec,
                         ParseVocabAndMerges(*vocab, vocab_path, *merges, merges_path));
  return MakeTokenizer(spec, vocab_path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json,
                                                               std::string_view path_view) {
  const std::string path(path_view);
  BASED_ASSIGN_OR_RETURN(const TokenizerSpec spec, ParseTokenizerJson(json, path));
  return MakeTokenizer(spec, path);
}

}  // namespace based
