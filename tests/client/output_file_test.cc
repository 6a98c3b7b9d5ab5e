// Outputs that are opened at the beginning and written at the end.
#include "client/output_file.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

std::string Folder() {
  const std::string folder = testing::TempDir() + "/output_file_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  return folder;
}

std::string TextOf(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(OutputFile, AnOlderFileStaysUntilTheNewOneIsThere) {
  const std::string folder = Folder(), path = folder + "/out";
  std::ofstream(path) << "older";
  {
    const auto file = OutputFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(TextOf(path), "older");
  }
  EXPECT_EQ(TextOf(path), "older");
  {
    auto file = OutputFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_TRUE(file->Commit("newer").ok());
  }
  EXPECT_EQ(TextOf(path), "newer");
  const auto files = std::filesystem::directory_iterator(folder);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);  // nothing beside it
}

TEST(OutputFile, WhatCannotBeWrittenIsKnownAtOnce) {
  const std::string folder = Folder();
  EXPECT_THAT(OutputFile::Open(folder + "/no/out").status().message(),
              testing::HasSubstr("/no/out.new: No such file"));
  EXPECT_FALSE(OutputFile::Open(folder).ok());
}

TEST(OutputFile, ADeviceIsWrittenItself) {
  auto nothing = OutputFile::Open("/dev/null");
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_TRUE(nothing->Commit("text").ok());
  auto full = OutputFile::Open("/dev/full");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_TRUE(absl::IsResourceExhausted(full->Commit("text")));
}

}  // namespace
}  // namespace based
