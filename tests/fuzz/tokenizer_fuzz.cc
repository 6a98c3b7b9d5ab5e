// Tokenizer files and then their use. Input: tokenizer.json, a NUL byte, text; or vocab.json, a NUL
// byte, merges.txt, a NUL byte, text (told apart by the first byte: a vocabulary starts with 'v',
// which is dropped). Whatever loads must encode any text to ids of its own and decode them.
#include <string>
#include <string_view>
#include <vector>

#include "engine/byte_level_bpe.h"
#include "engine/pretokenizer.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer_file.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

// A file's pattern may need time exponential in the text; PCRE2's limits end that, but a fuzzer has
// better uses of its seconds.
constexpr size_t kMostText = 64;
constexpr size_t kMostWord = 512;

void CheckRefusal(const absl::Status& status) {
  BASED_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  BASED_CHECK(!status.message().empty());
}

void CheckEncode(const Tokenizer& tokenizer, std::string_view text) {
  const absl::StatusOr<std::vector<int32_t>> ids = tokenizer.Encode(text);
  if (!ids.ok()) return CheckRefusal(ids.status());
  BASED_CHECK(FindInvalidUtf8(text) == std::string_view::npos);
  for (const int32_t id : *ids) {
    BASED_CHECK(id >= 0 && id < tokenizer.size());
    (void)tokenizer.Bytes(id, /*skip_special=*/true);
  }
  BASED_CHECK(tokenizer.Bytes(-1, false).empty());
  BASED_CHECK(tokenizer.Bytes(tokenizer.size(), false).empty());
}

void RunJson(FuzzInput& input) {
  const auto tokenizer = Tokenizer::FromJson(input.TakeUntil('\0'), "tokenizer.json");
  if (!tokenizer.ok()) return CheckRefusal(tokenizer.status());
  CheckEncode(**tokenizer, input.Take(kMostText));
  CheckEncode(**tokenizer, "Hello,  <|endoftext|> w\xC3\xB6rld's\n\t 42 \xE2\x80\x83!");
}

void RunPair(FuzzInput& input) {
  const std::string_view vocab = input.TakeUntil('\0');
  const std::string_view merges = input.TakeUntil('\0');
  const auto spec = ParseVocabAndMerges(vocab, "vocab.json", merges, "merges.txt");
  if (!spec.ok()) return CheckRefusal(spec.status());
  const ByteLevelBpe bpe(spec->model);
  const absl::StatusOr<Pretokenizer> pretokenizer = Pretokenizer::Create(spec->stages);
  BASED_CHECK(pretokenizer.ok());
  const std::string_view text = input.Take(kMostWord);
  std::vector<int32_t> ids;
  bpe.EncodeWord(text, &ids);
  if (FindInvalidUtf8(text) == std::string_view::npos) {
    size_t bytes = 0;
    const absl::Status status = pretokenizer->Split(text, [&](std::string_view word) {
      BASED_CHECK(!word.empty());
      bytes += word.size();
      bpe.EncodeWord(word, &ids);
    });
    BASED_CHECK(status.ok() && bytes == text.size());
  }
  for (const int32_t id : ids) BASED_CHECK(id >= 0 && id < kMaxTokenId);
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  based::FuzzInput input(data, size);
  if (size > 0 && data[0] == 'v') {
    input.Byte();
    based::RunPair(input);
  } else {
    based::RunJson(input);
  }
  return 0;
}
