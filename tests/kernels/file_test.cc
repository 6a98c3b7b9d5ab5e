// Lines of files: where they begin, and how long they may be.
#include "kernels/base/file.h"

#include <fcntl.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace based {
namespace {

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(testing::TempDir(), "/file_test_", name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(IsRegularOrNew, TellsDevicesAndFolders) {
  EXPECT_EQ(*IsRegularOrNew(WriteFile("regular", "x")), true);
  EXPECT_EQ(*IsRegularOrNew(testing::TempDir() + "/file_test_nothing"), true);
  EXPECT_EQ(*IsRegularOrNew(testing::TempDir()), false);
  EXPECT_EQ(*IsRegularOrNew("/dev/null"), false);
  EXPECT_FALSE(IsRegularOrNew(WriteFile("regular", "x") + "/below").ok());
}

TEST(LineReader, LinesOfAnyLengthWithTheirOffsets) {
  const std::string longer(3 << 20, 'x');  // than what is read at a time
  const std::string path = WriteFile("lines", absl::StrCat("a\n\n", longer, "\nlast"));
  const auto file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok()) << file.status();
  LineReader reader(file->get(), path, 4 << 20);
  int64_t offset = 0, number = 0;
  for (const std::string& line : {std::string("a"), std::string(), longer, std::string("last")}) {
    ASSERT_TRUE(*reader.Next());
    EXPECT_EQ(reader.line(), line);
    EXPECT_EQ(reader.offset(), offset);
    EXPECT_EQ(reader.number(), ++number);
    EXPECT_EQ(reader.terminated(), line != "last");
    offset += static_cast<int64_t>(line.size()) + 1;
  }
  EXPECT_FALSE(*reader.Next());
}

TEST(LineReader, TheLimitIsExact) {
  for (const char* end : {"", "\n", "\nmore\n"}) {
    for (const int64_t limit : {10, 1 << 20, 3 << 20}) {
      const std::string path =
          WriteFile("limit", std::string(static_cast<size_t>(limit), 'x') + end);
      const auto file = OpenFile(path, O_RDONLY);
      ASSERT_TRUE(file.ok()) << file.status();
      EXPECT_TRUE(LineReader(file->get(), path, limit).Next().ok());
      const absl::Status status = LineReader(file->get(), path, limit - 1).Next().status();
      EXPECT_EQ(status.message(), absl::StrCat(path, ":1: longer than ", limit - 1, " bytes"));
    }
  }
}

}  // namespace
}  // namespace based
