// Byte-level BPE as Hugging Face's tokenizer.json (model type BPE, ByteLevel pre-tokenizer) or
// GPT-2's vocab.json + merges.txt describe it. Immutable after loading; safe from many threads.
#ifndef BASED_ENGINE_TOKENIZER_H_
#define BASED_ENGINE_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/utf8.h"  // IWYU pragma: export

namespace based {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Loads tokenizer.json, or vocab.json with merges.txt, from `dir`. NOT_FOUND when neither is
  // there; INVALID_ARGUMENT naming file, place and reason.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& dir);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view json,
                                                             std::string_view path);

  // Ids of `text`; nothing is prepended. Special tokens written in the text become their ids, as
  // Hugging Face's encode does. INVALID_ARGUMENT when `text` is not UTF-8 (with the byte offset).
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const = 0;

  // Bytes of one id; "" for ids that mean nothing or (with skip_special) for special tokens. Bytes,
  // not characters: one character may span several ids.
  virtual std::string_view Bytes(int32_t id, bool skip_special) const = 0;

  // One past the largest id.
  virtual int32_t size() const = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_TOKENIZER_H_
