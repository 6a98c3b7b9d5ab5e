// LoadModel: names, tokenizer rules and the errors of each part, over the reference backend.
#include "engine/model.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference_backend.h"
#include "tests/engine/synthetic_checkpoint.h"

namespace based {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// GPT-2's pair of files with `count` one-byte tokens: "!", "\"", "#", ...
void WriteTokenizer(const std::string& dir, int count) {
  nlohmann::json vocabulary;
  for (int id = 0; id < count; ++id) vocabulary[std::string(1, static_cast<char>('!' + id))] = id;
  WriteFile(dir + "/vocab.json", vocabulary.dump());
  WriteFile(dir + "/merges.txt", "#version: 0.2\n");
}

class ModelTest : public testing::Test {
 protected:
  ModelTest() : dir_(NewTestDir()) { WriteCheckpoint(dir_, {}, 11); }

  absl::StatusOr<std::unique_ptr<Model>> Load(ModelOptions options) {
    options.model_dir = options.model_dir.empty() ? dir_ : options.model_dir;
    return LoadModel(options, *backend_);
  }

  const std::string dir_;
  const std::unique_ptr<Backend> backend_ = NewReferenceBackend();
};

TEST_F(ModelTest, LoadsWithoutATokenizer) {
  const auto model = Load({.model_dir = dir_ + "/"});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->name, dir_.substr(dir_.rfind('/') + 1));
  EXPECT_EQ((*model)->tokenizer, nullptr);
  ASSERT_NE((*model)->executable, nullptr);
  EXPECT_EQ((*model)->executable->info().vocab_size, 61);
  EXPECT_EQ((*model)->checkpoint.digest.size(), 32u);
}

TEST_F(ModelTest, TakesTheTokenizerBesideTheWeights) {
  WriteTokenizer(dir_, 61);
  const auto model = Load({.name = "mine"});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->name, "mine");
  ASSERT_NE((*model)->tokenizer, nullptr);
  EXPECT_EQ((*model)->tokenizer->size(), 61);
}

TEST_F(ModelTest, TokenizerOfAnotherFolderMustBeThere) {
  EXPECT_TRUE(absl::IsNotFound(Load({.tokenizer_dir = NewTestDir()}).status()));
  const std::string other = NewTestDir();
  WriteTokenizer(other, 10);
  const auto model = Load({.tokenizer_dir = other});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->tokenizer->size(), 10);
}

TEST_F(ModelTest, TokenizerLargerThanTheVocabularyIsRefused) {
  WriteTokenizer(dir_, 62);
  const absl::Status status = Load({.name = ""}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(dir_), HasSubstr("62 ids"), HasSubstr("vocab_size = 61")));
}

TEST_F(ModelTest, DamagedTokenizerIsNotTakenForNone) {
  WriteFile(dir_ + "/tokenizer.json", "{");
  EXPECT_EQ(Load({.name = ""}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelTest, ErrorsOfThePartsComeThrough) {
  EXPECT_TRUE(absl::IsNotFound(Load({.model_dir = dir_ + "/none"}).status()));
  nlohmann::json config = nlohmann::json::parse(ReadFile(dir_ + "/config.json"));
  config["eos_token_id"] = 61;
  WriteFile(dir_ + "/config.json", config.dump());
  EXPECT_THAT(std::string(Load({.name = ""}).status().message()), HasSubstr("eos_token_id is 61"));
}

}  // namespace
}  // namespace based
