// What safetensors.h promises: good files read back bit for bit, and every way in which a file can
// lie or be damaged is an error that names file, tensor and reason.
#include "engine/safetensors.h"

#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/synthetic_checkpoint.h"

namespace based {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

std::string FileText(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string text(sizeof(length), '\0');
  std::memcpy(text.data(), &length, sizeof(length));
  return text + header + data;
}

absl::Status ParseStatus(const std::string& header, const std::string& data) {
  const std::string text = FileText(header, data);
  return SafetensorsFile::Parse(AsBytes(text), "bad.safetensors").status();
}

struct BadHeader {
  const char* name;
  const char* header;
  std::vector<const char*> message;  // all of them must be in it
};

class BadHeaderTest : public testing::TestWithParam<BadHeader> {};

// The data is always 16 bytes.
TEST_P(BadHeaderTest, IsRefusedWithTheReason) {
  const absl::Status status = ParseStatus(GetParam().header, std::string(16, '\1'));
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("bad.safetensors"));
  for (const char* part : GetParam().message) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BadHeaderTest,
    testing::Values(
        BadHeader{"PastTheEnd",
                  R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}})",
                  {"'a'", "[0, 20)", "16 bytes"}},
        BadHeader{"BeginAfterEnd",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})",
                  {"'a'", "[16, 0)"}},
        BadHeader{"NegativeOffset",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[-1,15]}})",
                  {"'a'", "data_offsets holds -1"}},
        BadHeader{"HugeOffset",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}})",
                  {"'a'", "18446744073709551615"}},
        BadHeader{"FractionalOffset",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16.0]}})",
                  {"'a'", "data_offsets holds 16.0"}},
        BadHeader{"OneOffset",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16]}})",
                  {"'a'", "holds 1 numbers"}},
        BadHeader{"Overlap",
                  R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                  R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                  {"'b'", "overlaps", "'a'"}},
        BadHeader{"Hole",
                  R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                  {"'b'", "4 bytes", "no tensor"}},
        BadHeader{"Trailing",
                  R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                  {"last 8 bytes"}},
        BadHeader{"WrongShape",
                  R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,16]}})",
                  {"'a'", "16 bytes", "F32 [2, 3] needs 24"}},
        BadHeader{"WrongDtype",
                  R"({"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,16]}})",
                  {"'a'", "BF16 [4] needs 8"}},
        BadHeader{"UnknownDtype",
                  R"({"a":{"dtype":"F31","shape":[4],"data_offsets":[0,16]}})",
                  {"'a'", "unknown dtype \"F31\""}},
        BadHeader{"NumberAsDtype",
                  R"({"a":{"dtype":7,"shape":[4],"data_offsets":[0,16]}})",
                  {"'a'", "unknown dtype 7"}},
        BadHeader{"ShapeOverflow",
                  R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,16],)"
                  R"("data_offsets":[0,16]}})",
                  {"'a'", "more than 2^63"}},
        BadHeader{"NoShape",
                  R"({"a":{"dtype":"F32","data_offsets":[0,16]}})",
                  {"'a'", "shape is missing"}},
        BadHeader{"NoOffsets",
                  R"({"a":{"dtype":"F32","shape":[4]}})",
                  {"'a'", "data_offsets is missing"}},
        BadHeader{
            "NoDtype", R"({"a":{"shape":[4],"data_offsets":[0,16]}})", {"'a'", "dtype is missing"}},
        BadHeader{"ShapeNoArray",
                  R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})",
                  {"'a'", "shape is 4"}},
        BadHeader{"EntryNoObject", R"({"a":[1]})", {"'a'", "expected an object"}},
        BadHeader{"DuplicateName",
                  R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                  R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                  {"\"a\" twice"}},
        BadHeader{"DuplicateField",
                  R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                  {"\"dtype\" twice"}},
        BadHeader{"NotAnObject", "[]", {"expected an object"}},
        BadHeader{"NotJson", R"({"a":)", {"not JSON"}},
        BadHeader{"NotUtf8", "{\"\xff\":1}", {"not JSON"}}),
    [](const testing::TestParamInfo<BadHeader>& test) { return test.param.name; });

TEST(SafetensorsTest, HostileNestingIsRefused) {
  const std::string deep(1 << 20, '[');
  EXPECT_THAT(std::string(ParseStatus("{\"a\":" + deep, "").message()),
              AllOf(HasSubstr("bad.safetensors"), HasSubstr("JSON")));
  const std::string closed = "{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}";
  EXPECT_THAT(std::string(ParseStatus(closed, "").message()), HasSubstr("nests deeper"));
}

TEST(SafetensorsTest, HeaderLengthIsCheckedBeforeUse) {
  std::string text = FileText("{}", "");
  for (uint64_t length : {uint64_t{3}, std::numeric_limits<uint64_t>::max(), uint64_t{1} << 40}) {
    std::memcpy(text.data(), &length, sizeof(length));
    const absl::Status status = SafetensorsFile::Parse(AsBytes(text), "bad").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << length;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(length)));
  }
}

std::string GoodFile() {
  SyntheticShape shape{.d_model = 8, .layers = "c", .conv_channels = 8, .mlp_inner = 8};
  const std::string dir = NewTestDir();
  WriteCheckpoint(dir, shape, 3);
  return ReadFile(dir + "/model.safetensors");
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string good = GoodFile();
  ASSERT_TRUE(SafetensorsFile::Parse(AsBytes(good), "good").ok());
  for (size_t size = 0; size < good.size(); size += size < 64 ? 1 : 61) {
    const std::string cut = good.substr(0, size);
    const absl::Status status = SafetensorsFile::Parse(AsBytes(cut), "cut").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "at " << size;
  }
}

// A flipped header bit is refused or yields tensors that lie inside the file; under
// AddressSanitizer a bad range would be found by the reads.
TEST(SafetensorsTest, FlippedHeaderBitsNeverReachOutside) {
  const std::string good = GoodFile();
  uint64_t header = 0;
  std::memcpy(&header, good.data(), sizeof(header));
  std::mt19937 random(5);
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bad = good;
    const size_t at = random() % (8 + header);
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    const auto file = SafetensorsFile::Parse(AsBytes(bad), "flipped");
    if (!file.ok()) {
      ++refused;
      continue;
    }
    for (const auto& [name, tensor] : file->tensors()) {
      int64_t bytes = ElementBytes(tensor.dtype);
      for (int64_t dim : tensor.shape) bytes *= dim;
      ASSERT_EQ(bytes, static_cast<int64_t>(tensor.bytes.size()));
      unsigned sum = 0;
      for (std::byte value : tensor.bytes) sum += static_cast<unsigned>(value);
      ASSERT_GE(sum, 0u);
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(SafetensorsTest, UnalignedDataIsHandedOutAligned) {
  const float values[] = {1.5f, -2.25f};
  std::string data(sizeof(values), '\0');
  std::memcpy(data.data(), values, sizeof(values));
  std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  for (int padding = 0; padding < 8; ++padding, header += ' ') {
    const std::string text = FileText(header, data);
    const auto file = SafetensorsFile::Parse(AsBytes(text), "unaligned");
    ASSERT_TRUE(file.ok()) << file.status();
    const Tensor& tensor = file->tensors().at("a");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 4, 0u);
    EXPECT_EQ(std::memcmp(tensor.bytes.data(), values, sizeof(values)), 0);
  }
}

TEST(SafetensorsTest, WrittenFilesReadBack) {
  const std::string path = NewTestDir() + "/x.safetensors";
  const std::string a = "abc";
  const std::string b = "01234567";
  const std::vector<OutputTensor> tensors = {
      {.name = "a \"quoted\"", .dtype = "U8", .shape = {3, 1}, .bytes = AsBytes(a)},
      {.name = "b", .dtype = "I64", .shape = {}, .bytes = AsBytes(b)},
      {.name = "empty", .dtype = "F32", .shape = {0, 7}, .bytes = {}}};
  ASSERT_TRUE(WriteSafetensors(path, tensors).ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 3u);
  for (const OutputTensor& expected : tensors) {
    const Tensor& read = file->tensors().at(expected.name);
    EXPECT_EQ(read.dtype, expected.dtype);
    EXPECT_EQ(read.shape, expected.shape);
    EXPECT_EQ(read.bytes, expected.bytes);
  }
  // Nothing but the file itself is left behind.
  const auto dir = std::filesystem::directory_iterator(std::filesystem::path(path).parent_path());
  EXPECT_EQ(std::distance(dir, std::filesystem::directory_iterator{}), 1);
}

TEST(SafetensorsTest, WritingNonsenseIsRefused) {
  const std::string path = NewTestDir() + "/x.safetensors";
  const std::string a = "abcd";
  const OutputTensor good{.name = "a", .dtype = "F32", .shape = {1}, .bytes = AsBytes(a)};
  OutputTensor bad = good;
  bad.shape = {2};
  EXPECT_THAT(std::string(WriteSafetensors(path, {bad}).message()), HasSubstr("needs 8"));
  bad = good;
  bad.dtype = "F5";
  EXPECT_THAT(std::string(WriteSafetensors(path, {bad}).message()), HasSubstr("'F5'"));
  EXPECT_THAT(std::string(WriteSafetensors(path, {good, good}).message()), HasSubstr("twice"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(WriteSafetensors("/nonexistent/x", {good}).code(), absl::StatusCode::kUnavailable);
}

TEST(SafetensorsTest, OpeningWhatIsNoFileIsRefused) {
  const std::string dir = NewTestDir();
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open(dir + "/none").status()));
  EXPECT_THAT(std::string(SafetensorsFile::Open(dir).status().message()),
              HasSubstr("not a regular file"));
  WriteFile(dir + "/empty", "");
  EXPECT_THAT(std::string(SafetensorsFile::Open(dir + "/empty").status().message()),
              AllOf(HasSubstr("/empty"), HasSubstr("truncated")));
}

}  // namespace
}  // namespace based
