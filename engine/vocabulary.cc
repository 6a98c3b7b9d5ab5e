#include "engine/vocabulary.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/byte_alphabet.h"
#include "engine/tokenizer_file.h"
#include "kernels/base/status.h"

namespace based {

using json_reader::Json;

absl::Status Invalid(const std::string& place, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", reason));
}

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 64;
  return Json(text.substr(0, kShown)).dump(-1, ' ', true, Json::error_handler_t::replace);
}

absl::Status Vocabulary::Add(const std::string& token, int32_t id, const std::string& place) {
  if (const auto [it, added] = tokens_.emplace(id, token); !added) {
    return Invalid(place, absl::StrFormat("id %d is also that of %s", id, Quoted(it->second)));
  }
  ids_.emplace(token, id);
  return absl::OkStatus();
}

absl::Status Vocabulary::Parse(const Json& json, const std::string& place) {
  BASED_RETURN_IF_ERROR(json_reader::ExpectObject(json, place));
  for (const auto& [token, value] : json.items()) {
    const std::string token_place = absl::StrCat(place, "[", Quoted(token), "]");
    BASED_ASSIGN_OR_RETURN(const int32_t id, json_reader::Id(value, kMaxTokenId, token_place));
    BASED_RETURN_IF_ERROR(Add(token, id, token_place));
  }
  if (ids_.empty()) return Invalid(place, "is empty");
  return absl::OkStatus();
}

std::optional<int32_t> Vocabulary::Find(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

absl::StatusOr<BpeModel::Merge> Vocabulary::Merge(std::string_view left, std::string_view right,
                                                  const std::string& place) const {
  const std::string merged = std::string(left).append(right);
  for (const std::string_view token : {left, right, std::string_view(merged)}) {
    if (!Find(token)) {
      return Invalid(place, absl::StrCat(Quoted(token), " is not in the vocabulary"));
    }
  }
  return BpeModel::Merge{*Find(left), *Find(right), *Find(merged)};
}

std::vector<std::pair<std::string, int32_t>> Vocabulary::Bytes() const {
  std::vector<std::pair<std::string, int32_t>> bytes;
  bytes.reserve(ids_.size());
  for (const auto& [token, id] : ids_) {
    bytes.emplace_back(FromByteAlphabet(token).value_or(token), id);
  }
  return bytes;
}

}  // namespace based
