// Every file of corpus/<target>/ through its fuzz target: what once broke the reader stays fixed,
// and the targets cannot rot. A target that finds a fault aborts; the file named last is the
// culprit.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"

extern "C" {
int chat_template_fuzz(const uint8_t* data, size_t size);
int checkpoint_fuzz(const uint8_t* data, size_t size);
int config_fuzz(const uint8_t* data, size_t size);
int ebnf_fuzz(const uint8_t* data, size_t size);
int json_schema_fuzz(const uint8_t* data, size_t size);
int regex_fuzz(const uint8_t* data, size_t size);
int request_fuzz(const uint8_t* data, size_t size);
int safetensors_fuzz(const uint8_t* data, size_t size);
int scheduler_fuzz(const uint8_t* data, size_t size);
int text_fuzz(const uint8_t* data, size_t size);
int tokenizer_fuzz(const uint8_t* data, size_t size);
}

namespace based {
namespace {

struct Target {
  const char* name;
  int (*run)(const uint8_t* data, size_t size);
};

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, EveryFileIsHandled) {
  const std::filesystem::path folder =
      std::filesystem::path(BASED_SOURCE_DIR) / "tests/fuzz/corpus" / GetParam().name;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  ASSERT_GE(files.size(), 5u);
  EXPECT_EQ(GetParam().run(nullptr, 0), 0);
  for (const std::filesystem::path& path : files) {
    std::cout << "corpus/" << GetParam().name << "/" << path.filename().string() << std::endl;
    std::ifstream stream(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_EQ(GetParam().run(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Fuzz, Corpus,
    testing::Values(Target{"chat_template", chat_template_fuzz},
                    Target{"checkpoint", checkpoint_fuzz}, Target{"config", config_fuzz},
                    Target{"ebnf", ebnf_fuzz}, Target{"json_schema", json_schema_fuzz},
                    Target{"regex", regex_fuzz}, Target{"request", request_fuzz},
                    Target{"safetensors", safetensors_fuzz}, Target{"scheduler", scheduler_fuzz},
                    Target{"text", text_fuzz}, Target{"tokenizer", tokenizer_fuzz}),
    [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace based
