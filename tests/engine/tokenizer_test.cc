// Ids against Hugging Face's `tokenizers`, which wrote tests/golden/tokenizer (make_fixture.py).
#include "engine/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

namespace based {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string ReadGolden(const std::string& name) {
  std::ifstream file(std::string(BASED_SOURCE_DIR "/tests/golden/tokenizer/") + name);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

json Base() { return json::parse(ReadGolden("tokenizer.json")); }

std::unique_ptr<Tokenizer> Make(const json& document) {
  auto tokenizer = Tokenizer::FromJson(document.dump(), "test.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string bytes;
  for (const int32_t id : ids) bytes += tokenizer.Bytes(id, false);
  return bytes;
}

const json& Cases() {
  static const json cases = json::parse(ReadGolden("cases.json"));
  return cases;
}

class Variant : public testing::TestWithParam<size_t> {};

TEST_P(Variant, IdsEqualHuggingFace) {
  const json& variant = Cases()["variants"][GetParam()];
  json document = Base();
  document.merge_patch(variant["patch"]);
  const auto tokenizer = Make(document);
  ASSERT_NE(tokenizer, nullptr);
  const json& texts = Cases()["texts"];
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const auto ids = tokenizer->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, variant["ids"][i].get<std::vector<int32_t>>()) << texts[i].dump(-1, ' ', true);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Variant, testing::Range(size_t{0}, Cases()["variants"].size()),
                         [](const testing::TestParamInfo<size_t>& variant) {
                           std::string name = Cases()["variants"][variant.param]["name"];
                           std::erase_if(name, [](char c) {
                             return !std::isalnum(static_cast<unsigned char>(c));
                           });
                           return name;
                         });

class TokenizerTest : public testing::Test {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = Make(Base());
  const int32_t end_of_text_ = 0;
};

TEST_F(TokenizerTest, DecodesWhatItEncodes) {
  std::mt19937 rng(5);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (size_t n = rng() % 300; n > 0; --n) {
      const auto c = static_cast<char32_t>(rng() % (rng() % 3 == 0 ? 0x110000 : 0x80));
      if (c < 0xD800 || c > 0xDFFF) AppendUtf8(c, &text);
    }
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_EQ(Decode(*tokenizer_, *ids), text);
  }
}

TEST_F(TokenizerTest, BytesOfIds) {
  EXPECT_EQ(tokenizer_->size(), 700);
  EXPECT_EQ(tokenizer_->Bytes(end_of_text_, false), "<|endoftext|>");
  EXPECT_EQ(tokenizer_->Bytes(end_of_text_, true), "");
  EXPECT_EQ(tokenizer_->Bytes(-1, false), "");
  EXPECT_EQ(tokenizer_->Bytes(700, false), "");
  EXPECT_EQ(tokenizer_->Bytes(1, true), "!");
}

TEST_F(TokenizerTest, UnusedIdsDecodeToNothing) {
  json document = Base();
  document["added_tokens"].push_back(
      {{"id", 705}, {"content", "\xE6\x97\xA5"}, {"special", false}});
  const auto tokenizer = Make(document);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->size(), 706);
  EXPECT_EQ(tokenizer->Bytes(703, false), "");
  EXPECT_EQ(tokenizer->Bytes(705, true), "\xE6\x97\xA5");
}

TEST_F(TokenizerTest, InvalidUtf8IsRefusedWithItsOffset) {
  const auto ids = tokenizer_->Encode("good \xC3\xA9 bad \xE2\x82 more");
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("byte 12: 0xe2"));
}

// With quadratic merging each of these would take many minutes.
TEST_F(TokenizerTest, LongWordsAreNotQuadratic) {
  std::mt19937 rng(9);
  for (const std::string_view alphabet : {"a", " ", "e", "licens", "-", "\n"}) {
    std::string text;
    while (text.size() < 1'000'000) text += alphabet[rng() % alphabet.size()];
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(Decode(*tokenizer_, *ids), text);
  }
}

// The merge loop changes with the length of a word; a word's ids must not.
TEST_F(TokenizerTest, ShortAndLongWordsMergeAlike) {
  json document = Base();
  document["pre_tokenizer"]["use_regex"] = false;
  const auto whole = Make(document);
  ASSERT_NE(whole, nullptr);
  std::mt19937 rng(11);
  for (int round = 0; round < 300; ++round) {
    // "|" occurs in no merge, so the parts of the long word merge as they do alone.
    std::string joined;
    std::vector<int32_t> expected;
    for (int part = 0; part < 12; ++part) {
      std::string word = "|";
      for (size_t n = rng() % 30; n > 0; --n) word += "licenseortha"[rng() % 12];
      const auto ids = whole->Encode(word);
      ASSERT_TRUE(ids.ok());
      expected.insert(expected.end(), ids->begin(), ids->end());
      joined += word;
    }
    ASSERT_EQ(*whole->Encode(joined), expected) << joined;
  }
}

TEST_F(TokenizerTest, ManyThreadsShareOne) {
  const std::string text = ReadGolden("make_fixture.py");
  const std::vector<int32_t> expected = *tokenizer_->Encode(text);
  std::vector<std::vector<int32_t>> results(8);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&, this] {
      for (int i = 0; i < 20; ++i) result = *tokenizer_->Encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

class TokenizerLoadTest : public TokenizerTest {
 protected:
  void SetUp() override { std::filesystem::create_directories(dir_); }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(dir_ / name, std::ios::binary) << content;
  }
  void WriteVocabAndMerges() {
    const json model = Base()["model"];
    Write("vocab.json", model["vocab"].dump());
    std::string merges = "#version: 0.2\n";
    for (const json& merge : model["merges"]) {
      merges += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
    }
    Write("merges.txt", merges);
  }
  absl::Status LoadStatus() { return Tokenizer::Load(dir_).status(); }

  const std::filesystem::path dir_ = std::filesystem::path(testing::TempDir()) /
                                     testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(TokenizerLoadTest, VocabAndMergesGiveTheSameIds) {
  WriteVocabAndMerges();
  const auto tokenizer = Tokenizer::Load(dir_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const json& text : Cases()["texts"]) {
    EXPECT_EQ(*(*tokenizer)->Encode(text.get<std::string>()),
              *tokenizer_->Encode(text.get<std::string>()));
  }
  EXPECT_EQ((*tokenizer)->Bytes(end_of_text_, true), "");
}

TEST_F(TokenizerLoadTest, MergesAsStringsGiveTheSameIds) {
  json document = Base();
  for (json& merge : document["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  Write("tokenizer.json", document.dump());
  const auto tokenizer = Tokenizer::Load(dir_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string text = ReadGolden("make_fixture.py");
  EXPECT_EQ(*(*tokenizer)->Encode(text), *tokenizer_->Encode(text));
}

TEST_F(TokenizerLoadTest, MissingAndBrokenFiles) {
  EXPECT_EQ(LoadStatus().code(), absl::StatusCode::kNotFound);
  WriteVocabAndMerges();
  std::filesystem::remove(dir_ / "merges.txt");
  EXPECT_EQ(LoadStatus().code(), absl::StatusCode::kNotFound);
  Write("merges.txt", "#version: 0.2\nt h\nt h e\n");
  EXPECT_THAT(LoadStatus().ToString(), HasSubstr("merges.txt: line 3: expected two tokens"));
  Write("merges.txt", "t nosuch\n");
  EXPECT_THAT(LoadStatus().ToString(), HasSubstr("merges.txt: line 1: \"nosuch\" is not in"));
  std::filesystem::create_directories(dir_ / "tokenizer.json");
  EXPECT_THAT(LoadStatus().ToString(), HasSubstr("tokenizer.json: "));
}

}  // namespace
}  // namespace based
