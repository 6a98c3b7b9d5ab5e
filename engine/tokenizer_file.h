// Reads the files that describe a byte-level BPE tokenizer. Everything is checked here: ids are
// unique, not negative and below kMaxTokenId, merges name tokens that exist.
#ifndef BASED_ENGINE_TOKENIZER_FILE_H_
#define BASED_ENGINE_TOKENIZER_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/added_tokens.h"
#include "engine/byte_level_bpe.h"
#include "engine/pretokenizer.h"

namespace based {

// Ids at or above are refused: tables are as long as the largest id.
inline constexpr int64_t kMaxTokenId = int64_t{1} << 22;

struct TokenizerSpec {
  BpeModel model;
  std::vector<SplitStage> stages;
  std::vector<AddedToken> added_tokens;
};

// tokenizer.json. What is not understood is refused by name: normalizers, other models than BPE,
// dropout, byte_fallback, subword prefixes and suffixes, other pre-tokenizers and decoders.
// Without effect on ids of a text, hence ignored: post_processor (nothing is prepended or appended
// here, as with add_special_tokens=False), truncation and padding (the server has its own limits).
// INVALID_ARGUMENT: "PATH: place: reason".
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json, const std::string& path);

// GPT-2's pair of files; <|endoftext|> is special if the vocabulary has it.
absl::StatusOr<TokenizerSpec> ParseVocabAndMerges(std::string_view vocab_json,
                                                  const std::string& vocab_path,
                                                  std::string_view merges_txt,
                                                  const std::string& merges_path);

}  // namespace based

#endif  // BASED_ENGINE_TOKENIZER_FILE_H_
