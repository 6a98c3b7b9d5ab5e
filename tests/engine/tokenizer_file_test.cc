// Hostile tokenizer files: each is refused with the place and the reason.
#include "engine/tokenizer_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "engine/split_pattern.h"
#include "engine/tokenizer.h"

namespace based {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json Minimal() {
  return json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<s>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": {"type": "TemplateProcessing", "single": []},
    "decoder": {"type": "ByteLevel"},
    "truncation": {"max_length": 1},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]}
  })");
}

std::string Error(const std::string& text) {
  return Tokenizer::FromJson(text, "t.json").status().ToString();
}

TEST(TokenizerFileTest, MinimalDocumentLoads) {
  const auto tokenizer = Tokenizer::FromJson(Minimal().dump(), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("abca<s>x"), testing::ElementsAre(2, 3, 0, 4));
}

struct Bad {
  const char* pointer;  // the member to replace
  const char* value;
  const char* error;
};

class BadMember : public testing::TestWithParam<Bad> {};

TEST_P(BadMember, IsRefusedByName) {
  json document = Minimal();
  document[json::json_pointer(GetParam().pointer)] = json::parse(GetParam().value);
  EXPECT_THAT(Error(document.dump()),
              HasSubstr(std::string("INVALID_ARGUMENT: t.json: ") + GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadMember,
    testing::Values(
        Bad{"/normalizer", R"({"type": "NFC"})", "normalizer: \"NFC\" is not supported"},
        Bad{"/normalizer", "7", "normalizer: is number, expected an object"},
        Bad{"/model", "null", "model: is null, expected an object"},
        Bad{"/model/type", R"("Unigram")", "model.type: \"Unigram\" is not supported"},
        Bad{"/model/type", "[]", "model.type: is array, expected a string"},
        Bad{"/model/vocab", "null", "model.vocab: is null, expected an object"},
        Bad{"/model/vocab", "{}", "model.vocab: is empty"},
        Bad{"/model/vocab/a", "-1", "model.vocab[\"a\"]: is -1, expected an id in [0, 4194304)"},
        Bad{"/model/vocab/a", "4194304", "model.vocab[\"a\"]: is 4194304"},
        Bad{"/model/vocab/a", "18446744073709551615", "model.vocab[\"a\"]: is 1844674407370955161"},
        Bad{"/model/vocab/a", "0.5", "model.vocab[\"a\"]: is number, expected an integer"},
        Bad{"/model/vocab/a", R"("0")", "model.vocab[\"a\"]: is string"},
        Bad{"/model/vocab/c", "1", "model.vocab[\"c\"]: id 1 is also that of \"b\""},
        Bad{"/model/merges", "{}", "model.merges: is object, expected an array"},
        Bad{"/model/merges", R"([["a", "b"], ["b", "c"]])", "model.merges[1]: \"bc\" is not in"},
        Bad{"/model/merges", R"([["a", "z"]])", "model.merges[0]: \"z\" is not in the vocabulary"},
        Bad{"/model/merges", R"(["ab"])", "model.merges[0]: expected two tokens"},
        Bad{"/model/merges", R"(["a b c"])", "model.merges[0]: expected two tokens"},
        Bad{"/model/merges", R"([["a", "b", "c"]])", "model.merges[0]: expected \"a b\""},
        Bad{"/model/merges", R"([["a", 1]])", "model.merges[0]: expected \"a b\""},
        Bad{"/model/merges", "[[]]", "model.merges[0]: expected \"a b\""},
        Bad{"/model/dropout", "0.1", "model.dropout: is not supported"},
        Bad{"/model/byte_fallback", "true", "model.byte_fallback: true is not supported"},
        Bad{"/model/byte_fallback", "1", "model.byte_fallback: is number, expected true or"},
        Bad{"/model/continuing_subword_prefix", R"("##")", "model.continuing_subword_prefix: is"},
        Bad{"/model/end_of_word_suffix", R"("</w>")", "model.end_of_word_suffix: is not"},
        Bad{"/model/unk_token", R"("<unk>")", "model.unk_token: \"<unk>\" is not in the"},
        Bad{"/added_tokens", "{}", "added_tokens: is object, expected an array"},
        Bad{"/added_tokens/0", "3", "added_tokens[0]: is number, expected an object"},
        Bad{"/added_tokens/0/content", R"("")", "added_tokens[0].content: is empty"},
        Bad{"/added_tokens/0/content", "null", "added_tokens[0].content: is null"},
        Bad{"/added_tokens/0/content", R"("a")", "added_tokens[0]: \"a\" has id 4 here and 0"},
        Bad{"/added_tokens/0/id", "null", "added_tokens[0].id: is null, expected an integer"},
        Bad{"/added_tokens/0/id", "-5", "added_tokens[0].id: is -5, expected an id in"},
        Bad{"/added_tokens/0/id", "2", "added_tokens[0]: id 2 is also that of \"ab\""},
        Bad{"/added_tokens/0/special", "0", "added_tokens[0].special: is number"},
        Bad{"/added_tokens/1", R"({"id": 4, "content": "<s>"})", "added_tokens[1]: \"<s>\" is lis"},
        Bad{"/pre_tokenizer", "null", "pre_tokenizer: is null, expected an object"},
        Bad{"/pre_tokenizer/type", R"("Metaspace")", "pre_tokenizer.type: \"Metaspace\" is not"},
        Bad{"/pre_tokenizer/use_regex", "[]", "pre_tokenizer.use_regex: is array"},
        Bad{"/decoder", "null", "decoder: is null, expected an object"},
        Bad{"/decoder/type", R"("WordPiece")", "decoder.type: \"WordPiece\" is not supported"}));

json WithSplit(const std::string& pattern, const std::string& behavior = "Isolated") {
  json document = Minimal();
  const json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}};
  document["pre_tokenizer"] = {{"type", "Sequence"},
                               {"pretokenizers", {split, {{"type", "ByteLevel"}}}}};
  return document;
}

TEST(TokenizerFileTest, BadSequencesAreRefused) {
  json document = WithSplit("a");
  document["pre_tokenizer"]["pretokenizers"] = json::array();
  EXPECT_THAT(Error(document.dump()), HasSubstr("expected ByteLevel at the end"));
  document = WithSplit("a");
  std::swap(document["pre_tokenizer"]["pretokenizers"][0],
            document["pre_tokenizer"]["pretokenizers"][1]);
  EXPECT_THAT(Error(document.dump()), HasSubstr("pretokenizers[0]: expected ByteLevel at the end"));
  document = WithSplit("a");
  document["pre_tokenizer"]["pretokenizers"][0] = document["pre_tokenizer"];
  EXPECT_THAT(Error(document.dump()), HasSubstr("pretokenizers[0].type: \"Sequence\" is not"));
  document["pre_tokenizer"]["pretokenizers"] = {1};
  EXPECT_THAT(Error(document.dump()), HasSubstr("pretokenizers[0]: is number"));
  EXPECT_THAT(Error(WithSplit("a", "MergedWithNext").dump()),
              HasSubstr("pretokenizers[0].behavior: \"MergedWithNext\" with invert false"));
}

TEST(TokenizerFileTest, BadPatternsAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"a*", "it may match the empty string"},
      {"(a", "closing parenthesis"},
      {"+a", "quantifier does not follow a repeatable item"},
      {"x$", "offset 1: $ is not supported"},
      {R"(\w+)", R"(offset 0: \w is not supported)"},
      {R"(\p{Han})", R"(\p{Han} is not supported)"},
      {R"([^\P{L}])", R"(offset 2: \P{L} is not supported)"},
      {"[a[b]]", "[ inside a class"},
      {"[a", "a class without its ]"},
      {"a(?i)b", "offset 1: (?i) is not supported"},
      {"(*ACCEPT)", "(* is not supported"},
      {"(?R)", "(?R) is not supported"},
      {"a{2}+", "{2}+ is not supported"},
      {"\\", "\\ at the end"},
      {R"(\x{ffffffff})", "character code point value"},
  };
  for (const auto& [pattern, reason] : cases) {
    const std::string error = Error(WithSplit(pattern).dump());
    EXPECT_THAT(error, HasSubstr("t.json: pre_tokenizer: split pattern \"")) << pattern;
    EXPECT_THAT(error, HasSubstr(reason)) << pattern;
  }
}

// A pattern with exponential backtracking fails with a status, in bounded time.
TEST(TokenizerFileTest, RunawayPatternIsAnError) {
  const auto tokenizer = Tokenizer::FromJson(WithSplit("(a|aa|aaa)+b").dump(), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode(std::string(100, 'a') + " b");
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ids.status().ToString(), HasSubstr("split pattern fails"));
}

TEST(TokenizerFileTest, NotJsonIsRefusedWithTheOffset) {
  EXPECT_THAT(Error(""), HasSubstr("t.json: byte 1: not JSON"));
  EXPECT_THAT(Error("{\"a\": 1,}"), HasSubstr("t.json: byte 9: not JSON"));
  EXPECT_THAT(Error("[]"), HasSubstr("the document: is array, expected an object"));
  EXPECT_THAT(Error("{\"a\": 1e999}"), HasSubstr("t.json: "));
  EXPECT_THAT(Error(std::string(1'000'000, '[')), HasSubstr("t.json: "));
  EXPECT_THAT(Error(std::string(100'000, '[') + std::string(100'000, ']')),
              HasSubstr("nests deeper than 64 levels"));
  EXPECT_THAT(Error("{\"\xFF\": 1}"), HasSubstr("not JSON"));
}

// Truncated and byte-flipped documents give a tokenizer or an error, never a crash.
TEST(TokenizerFileTest, MutatedDocumentsNeverCrash) {
  const std::string good = WithSplit(R"(\p{L}+|[^\s\p{N}]{1,3})").dump();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(Tokenizer::FromJson(good.substr(0, size), "t.json").ok());
  }
  std::mt19937 rng(13);
  int loaded = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (size_t n = 1 + rng() % 3; n > 0; --n) {
      text[rng() % text.size()] = static_cast<char>(rng() % 128);
    }
    const auto tokenizer = Tokenizer::FromJson(text, "t.json");
    if (!tokenizer.ok()) continue;
    ++loaded;
    (void)(*tokenizer)->Encode("ab cab <s> 12 \xC3\xA9");
  }
  EXPECT_GT(loaded, 10);
}

}  // namespace
}  // namespace based
