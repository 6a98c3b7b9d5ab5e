// GenerateRequest: any bytes of a message become prompt ids within the model and the limits, or a
// status that a client can act on; with and without a tokenizer.
//
// Input: a byte of switches (1: the model has a tokenizer, 2: it has a begin-of-text token), then
// the message as protobuf bytes; with switch 4 the text format, which mutates into set fields
// sooner.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "based/v1/completion.pb.h"
#include "engine/validate.h"
#include "kernels/base/check.h"
#include "server/convert.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

constexpr int32_t kVocabulary = 300;
constexpr int32_t kSlots = 32;

// One id per byte.
class ByteTokenizer final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
  std::string_view Bytes(int32_t, bool) const override { return {}; }
  int32_t size() const override { return kVocabulary; }
};

class SilentErrors final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
};

bool ReadMessage(std::string_view bytes, bool as_text, v1::GenerateRequest& message) {
  if (!as_text) return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  SilentErrors errors;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(32);
  return parser.ParseFromString(std::string(bytes), &message);
}

void CheckRefusal(const absl::Status& status) {
  const absl::StatusCode code = status.code();
  BASED_CHECK(code == absl::StatusCode::kInvalidArgument ||
              code == absl::StatusCode::kUnimplemented ||
              code == absl::StatusCode::kFailedPrecondition || code == absl::StatusCode::kNotFound);
  BASED_CHECK(!status.message().empty());
}

// What Engine::Submit does with a request before it is queued.
void CheckRequest(const Request& request, const Model& model) {
  const EngineOptions limits;
  if (const absl::Status status = ValidateRequest(request, model, limits, kSlots); !status.ok()) {
    return CheckRefusal(status);
  }
  BASED_CHECK(request.sampling.temperature >= 0 && request.sampling.temperature <= 100);
  BASED_CHECK(request.sampling.top_p > 0 && request.sampling.top_p <= 1);
  BASED_CHECK(request.sampling.min_p >= 0 && request.sampling.min_p <= 1);
  BASED_CHECK(request.stop.max_tokens >= 1 && request.stop.max_tokens <= limits.max_output_tokens);
  BASED_CHECK(request.best_of >= request.n && request.n >= 1 && request.best_of <= kSlots);
  BASED_CHECK(request.output.top_logprobs >= 0 && request.output.top_logprobs <= 20);
  BASED_CHECK(request.stop.min_tokens >= 0 && request.stop.min_tokens <= request.stop.max_tokens);
  BASED_CHECK(MakeRules(request, model).ok());
  const absl::StatusOr<std::vector<int32_t>> ids = PromptTokens(request, model, limits);
  if (!ids.ok()) return CheckRefusal(ids.status());
  BASED_CHECK(!ids->empty());
  for (const int32_t id : *ids) BASED_CHECK(id >= 0 && id < kVocabulary);
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  FuzzInput input(data, size);
  const uint8_t switches = input.Byte();
  Model model;
  model.config.vocab_size = kVocabulary;
  if ((switches & 1) != 0) model.tokenizer = std::make_unique<ByteTokenizer>();
  if ((switches & 2) != 0) model.config.bos_token_id = 0;
  v1::GenerateRequest message;
  if (!ReadMessage(input.Rest(), (switches & 4) != 0, message)) return 0;
  const absl::Status named = CheckModelName(message.model(), "demo");
  if (!named.ok()) CheckRefusal(named);
  const absl::StatusOr<Request> request = RequestFromProto(message, model.tokenizer != nullptr);
  if (request.ok()) {
    CheckRequest(*request, model);
  } else {
    CheckRefusal(request.status());
  }
  return 0;
}
