// The tokens of a tokenizer file while it is read: as the file writes them (in the byte alphabet),
// with their ids, both ways.
#ifndef BASED_ENGINE_VOCABULARY_H_
#define BASED_ENGINE_VOCABULARY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/byte_level_bpe.h"
#include "engine/json_reader.h"

namespace based {

// INVALID_ARGUMENT "place: reason".
absl::Status Invalid(const std::string& place, const std::string& reason);

// `text` as a JSON string of ASCII, cut after 64 bytes: fit for a message whatever the file holds.
std::string Quoted(std::string_view text);

class Vocabulary {
 public:
  // INVALID_ARGUMENT when `id` is taken. `token` is new.
  absl::Status Add(const std::string& token, int32_t id, const std::string& place);

  // {"token": id, ...}; INVALID_ARGUMENT when empty, an id is out of range or used twice.
  absl::Status Parse(const json_reader::Json& json, const std::string& place);

  std::optional<int32_t> Find(std::string_view token) const;

  // INVALID_ARGUMENT when one of the two or what they make is not here.
  absl::StatusOr<BpeModel::Merge> Merge(std::string_view left, std::string_view right,
                                        const std::string& place) const;

  // Each token as bytes. Tokens outside the byte alphabet never come out of text; they decode to
  // what they say.
  std::vector<std::pair<std::string, int32_t>> Bytes() const;

 private:
  absl::flat_hash_map<std::string, int32_t, BytesHash, std::equal_to<>> ids_;
  absl::flat_hash_map<int32_t, std::string> tokens_;
};

}  // namespace based

#endif  // BASED_ENGINE_VOCABULARY_H_
