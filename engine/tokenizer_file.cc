#include "engine/tokenizer_file.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json_reader.h"
#include "engine/split_pattern.h"
#include "engine/vocabulary.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using json_reader::ExpectArray;
using json_reader::ExpectObject;
using json_reader::Json;
using json_reader::Member;

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", status.message()));
}

// "left right"
absl::StatusOr<BpeModel::Merge> ParseMergeText(std::string_view text, const Vocabulary& vocabulary,
                                               const std::string& place) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    return Invalid(place, "expected two tokens with one space between");
  }
  return vocabulary.Merge(text.substr(0, space), text.substr(space + 1), place);
}

absl::StatusOr<BpeModel::Merge> ParseMerge(const Json& merge, const Vocabulary& vocabulary,
                                           const std::string& place) {
  if (merge.is_string()) {
    return ParseMergeText(merge.get_ref<const std::string&>(), vocabulary, place);
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
    return Invalid(place, "expected \"a b\" or [\"a\", \"b\"]");
  }
  return vocabulary.Merge(merge[0].get<std::string>(), merge[1].get<std::string>(), place);
}

// Options of HF's BPE that change ids and that this tokenizer does not have.
absl::Status RefuseModelOptions(const Json& model) {
  const Json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && dropout != 0.0) {
    return Invalid("model.dropout", "is not supported: encoding is deterministic here");
  }
  for (const std::string key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    BASED_ASSIGN_OR_RETURN(const std::string value, json_reader::String(model, key, "", "model"));
    if (!value.empty()) return Invalid(absl::StrCat("model.", key), "is not supported");
  }
  BASED_ASSIGN_OR_RETURN(const bool fallback,
                         json_reader::Bool(model, "byte_fallback", false, "model"));
  if (fallback) return Invalid("model.byte_fallback", "true is not supported");
  return absl::OkStatus();
}

absl::StatusOr<BpeModel> ParseModel(const Json& model, Vocabulary* vocabulary) {
  BASED_RETURN_IF_ERROR(ExpectObject(model, "model"));
  BASED_ASSIGN_OR_RETURN(const std::string type,
                         json_reader::String(model, "type", "BPE", "model"));
  if (type != "BPE") return Invalid("model.type", Quoted(type) + " is not supported, only \"BPE\"");
  BASED_RETURN_IF_ERROR(RefuseModelOptions(model));
  BpeModel bpe;
  BASED_RETURN_IF_ERROR(vocabulary->Parse(Member(model, "vocab"), "model.vocab"));
  bpe.vocabulary = vocabulary->Bytes();
  const Json& merges = Member(model, "merges");
  BASED_RETURN_IF_ERROR(ExpectArray(merges, "model.merges"));
  for (const Json& item : merges) {
    const std::string place = absl::StrFormat("model.merges[%d]", bpe.merges.size());
    BASED_ASSIGN_OR_RETURN(const BpeModel::Merge merge, ParseMerge(item, *vocabulary, place));
    bpe.merges.push_back(merge);
  }
  BASED_ASSIGN_OR_RETURN(const std::string unknown,
                         json_reader::String(model, "unk_token", "", "model"));
  if (!Member(model, "unk_token").is_null()) {
    const std::optional<int32_t> id = vocabulary->Find(unknown);
    if (!id) return Invalid("model.unk_token", Quoted(unknown) + " is not in the vocabulary");
    bpe.unknown_id = *id;
  }
  BASED_ASSIGN_OR_RETURN(bpe.fuse_unknown, json_reader::Bool(model, "fuse_unk", false, "model"));
  BASED_ASSIGN_OR_RETURN(bpe.ignore_merges,
                         json_reader::Bool(model, "ignore_merges", false, "model"));
  return bpe;
}

absl::StatusOr<SplitStage> ParseSplit(const Json& json, const std::string& place) {
  SplitStage stage;
  const Json& pattern = Member(json, "pattern");
  BASED_RETURN_IF_ERROR(ExpectObject(pattern, absl::StrCat(place, ".pattern")));
  stage.literal = pattern.contains("String");
  const std::string kind = stage.literal ? "String" : "Regex";
  BASED_ASSIGN_OR_RETURN(
      stage.pattern,
      json_reader::String(Member(pattern, kind), absl::StrCat(place, ".pattern.", kind)));
  BASED_ASSIGN_OR_RETURN(const std::string behavior,
                         json_reader::String(json, "behavior", "", place));
  BASED_ASSIGN_OR_RETURN(const bool invert, json_reader::Bool(json, "invert", false, place));
  stage.drop_between = behavior == "Removed" && invert;
  if (behavior != "Isolated" && !stage.drop_between) {
    return Invalid(absl::StrCat(place, ".behavior"),
                   absl::StrCat(Quoted(behavior), " with invert ", invert ? "true" : "false",
                                " is not supported, only \"Isolated\", or \"Removed\" with true"));
  }
  return stage;
}

absl::StatusOr<SplitStage> ParseByteLevel(const Json& json, const std::string& place) {
  SplitStage stage;
  BASED_ASSIGN_OR_RETURN(stage.prefix_space,
                         json_reader::Bool(json, "add_prefix_space", true, place));
  BASED_ASSIGN_OR_RETURN(const bool use_regex, json_reader::Bool(json, "use_regex", true, place));
  if (use_regex) stage.pattern = kGpt2SplitPattern;
  return stage;
}

// ByteLevel, or a Sequence of Splits that ends with it.
absl::Status ParsePretokenizer(const Json& json, const std::string& place, bool nested,
                               std::vector<SplitStage>* stages) {
  BASED_RETURN_IF_ERROR(ExpectObject(json, place));
  BASED_ASSIGN_OR_RETURN(const std::string type, json_reader::String(json, "type", "", place));
  if (type == "Sequence" && !nested) {
    const Json& parts = Member(json, "pretokenizers");
    BASED_RETURN_IF_ERROR(ExpectArray(parts, "pre_tokenizer.pretokenizers"));
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string part_place = absl::StrFormat("pre_tokenizer.pretokenizers[%d]", i);
      BASED_RETURN_IF_ERROR(ParsePretokenizer(parts[i], part_place, true, stages));
      const bool last = i + 1 == parts.size();
      if (last != (Member(parts[i], "type") == "ByteLevel")) {
        return Invalid(part_place, "expected ByteLevel at the end of the sequence, only there");
      }
    }
    if (stages->empty()) return Invalid(place, "expected ByteLevel at the end of the sequence");
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    BASED_ASSIGN_OR_RETURN(stages->emplace_back(), ParseByteLevel(json, place));
    return absl::OkStatus();
  }
  if (type == "Split" && nested) {
    BASED_ASSIGN_OR_RETURN(stages->emplace_back(), ParseSplit(json, place));
    return absl::OkStatus();
  }
  return Invalid(
      absl::StrCat(place, ".type"),
      Quoted(type) + " is not supported, only ByteLevel or a Sequence that ends with it");
}

absl::Status CheckDecoder(const Json& decoder) {
  BASED_RETURN_IF_ERROR(ExpectObject(decoder, "decoder"));
  BASED_ASSIGN_OR_RETURN(const std::string type,
                         json_reader::String(decoder, "type", "", "decoder"));
  if (type == "ByteLevel") return absl::OkStatus();
  return Invalid("decoder.type", Quoted(type) + " is not supported, only \"ByteLevel\"");
}

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, const std::string& place) {
  BASED_RETURN_IF_ERROR(ExpectObject(json, place));
  AddedToken token;
  BASED_ASSIGN_OR_RETURN(
      token.content, json_reader::String(Member(json, "content"), absl::StrCat(place, ".content")));
  if (token.content.empty()) return Invalid(absl::StrCat(place, ".content"), "is empty");
  BASED_ASSIGN_OR_RETURN(
      token.id, json_reader::Id(Member(json, "id"), kMaxTokenId, absl::StrCat(place, ".id")));
  BASED_ASSIGN_OR_RETURN(token.special, json_reader::Bool(json, "special", false, place));
  BASED_ASSIGN_OR_RETURN(token.single_word, json_reader::Bool(json, "single_word", false, place));
  BASED_ASSIGN_OR_RETURN(token.lstrip, json_reader::Bool(json, "lstrip", false, place));
  BASED_ASSIGN_OR_RETURN(token.rstrip, json_reader::Bool(json, "rstrip", false, place));
  BASED_ASSIGN_OR_RETURN(token.normalized,
                         json_reader::Bool(json, "normalized", !token.special, place));
  return token;
}

// An added token may repeat a token of the model's vocabulary, with the same id.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const Json& json, Vocabulary* vocabulary) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  BASED_RETURN_IF_ERROR(ExpectArray(json, "added_tokens"));
  absl::flat_hash_map<std::string, size_t> seen;
  for (const Json& item : json) {
    const std::string place = absl::StrFormat("added_tokens[%d]", tokens.size());
    BASED_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(item, place));
    if (!seen.emplace(token.content, tokens.size()).second) {
      return Invalid(place, Quoted(token.content) + " is listed twice");
    }
    const std::optional<int32_t> id = vocabulary->Find(token.content);
    if (id && *id != token.id) {
      return Invalid(place, absl::StrFormat("%s has id %d here and %d in the vocabulary",
                                            Quoted(token.content), token.id, *id));
    }
    if (!id) BASED_RETURN_IF_ERROR(vocabulary->Add(token.content, token.id, place));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

absl::StatusOr<TokenizerSpec> ParseDocument(const Json& document) {
  BASED_RETURN_IF_ERROR(ExpectObject(document, "the document"));
  if (const Json& normalizer = Member(document, "normalizer"); !normalizer.is_null()) {
    BASED_RETURN_IF_ERROR(ExpectObject(normalizer, "normalizer"));
    BASED_ASSIGN_OR_RETURN(const std::string type,
                           json_reader::String(normalizer, "type", "", "normalizer"));
    return Invalid("normalizer", Quoted(type) + " is not supported, only null");
  }
  TokenizerSpec spec;
  Vocabulary vocabulary;
  BASED_ASSIGN_OR_RETURN(spec.model, ParseModel(Member(document, "model"), &vocabulary));
  BASED_ASSIGN_OR_RETURN(spec.added_tokens,
                         ParseAddedTokens(Member(document, "added_tokens"), &vocabulary));
  BASED_RETURN_IF_ERROR(
      ParsePretokenizer(Member(document, "pre_tokenizer"), "pre_tokenizer", false, &spec.stages));
  BASED_RETURN_IF_ERROR(CheckDecoder(Member(document, "decoder")));
  return spec;
}

// "#version" lines are comments, each other line is "left right".
absl::StatusOr<std::vector<BpeModel::Merge>> ParseMergesTxt(std::string_view text,
                                                            const Vocabulary& vocabulary) {
  std::vector<BpeModel::Merge> merges;
  int line_number = 0;
  while (!text.empty()) {
    ++line_number;
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    BASED_ASSIGN_OR_RETURN(
        merges.emplace_back(),
        ParseMergeText(line, vocabulary, absl::StrFormat("line %d", line_number)));
  }
  return merges;
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json, const std::string& path) {
  const absl::StatusOr<Json> document = json_reader::Parse(json);
  if (!document.ok()) return InFile(path, document.status());
  absl::StatusOr<TokenizerSpec> spec = ParseDocument(*document);
  if (!spec.ok()) return InFile(path, spec.status());
  return spec;
}

absl::StatusOr<TokenizerSpec> ParseVocabAndMerges(std::string_view vocab_json,
                                                  const std::string& vocab_path,
                                                  std::string_view merges_txt,
                                                  const std::string& merges_path) {
  const absl::StatusOr<Json> document = json_reader::Parse(vocab_json);
  if (!document.ok()) return InFile(vocab_path, document.status());
  Vocabulary vocabulary;
  if (const absl::Status status = vocabulary.Parse(*document, "the document"); !status.ok()) {
    return InFile(vocab_path, status);
  }
  TokenizerSpec spec;
  absl::StatusOr<std::vector<BpeModel::Merge>> merges = ParseMergesTxt(merges_txt, vocabulary);
  if (!merges.ok()) return InFile(merges_path, merges.status());
  spec.model.vocabulary = vocabulary.Bytes();
  spec.model.merges = *std::move(merges);
  spec.stages.push_back({.pattern = kGpt2SplitPattern});
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  if (const std::optional<int32_t> id = vocabulary.Find(kEndOfText)) {
    spec.added_tokens.push_back(
        {.content = std::string(kEndOfText), .id = *id, .special = true, .normalized = false});
  }
  return spec;
}

}  // namespace based
