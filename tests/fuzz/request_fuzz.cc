// GenerateRequest and ScoreRequest: any bytes of a message become requests that the engine serves
// as it promises, or a status that a client can act on; with and without a tokenizer. Requests run
// to their ends on a tiny model of every mixer, the reference backend and its sampling rules, cut
// to a few tokens.
//
// Input: a byte of switches (1: the model has a tokenizer, 2: it has a begin-of-text token), then
// the message as protobuf bytes; with switch 4 the text format, which mutates into set fields
// sooner; with switch 8 a ScoreRequest.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "based/v1/completion.pb.h"
#include "engine/validate.h"
#include "kernels/base/check.h"
#include "kernels/reference/reference_backend.h"
#include "server/convert.h"
#include "tests/engine/synthetic_checkpoint.h"
#include "tests/fuzz/checking_sink.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

constexpr int32_t kVocabulary = 300;
constexpr int32_t kSlots = 32;
// What a request may compute, so that inputs take milliseconds.
constexpr int64_t kMostGenerated = 48;
constexpr size_t kMostPrompt = 64;

// One id per byte.
class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
  std::string_view Bytes(int32_t id, bool) const override {
    return id < 256 ? std::string_view(&bytes_[static_cast<size_t>(id)], 1) : std::string_view();
  }
  int32_t size() const override { return kVocabulary; }

 private:
  std::array<char, 256> bytes_;
};

std::unique_ptr<Engine> MakeEngine(bool has_tokenizer, bool has_bos) {
  google::protobuf::SetLogHandler(nullptr);  // it prints of every ill-formed message
  static Backend& backend = *NewReferenceBackend().release();
  const SyntheticShape shape{.d_model = 8,
                             .n_head = 1,
                             .linear_heads = 1,
                             .feature_dim = 2,
                             .window_heads = 1,
                             .conv_channels = 8,
                             .mlp_inner = 8,
                             .vocab_size = kVocabulary};
  const std::string folder = NewTestDir();
  WriteCheckpoint(folder, shape, /*seed=*/3);
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel({.model_dir = folder}, backend);
  BASED_CHECK(model.ok());
  (*model)->config.bos_token_id = has_bos ? 0 : -1;
  (*model)->config.eos_token_id = 1;
  if (has_tokenizer) (*model)->tokenizer = std::make_unique<ByteTokenizer>();
  auto engine =
      Engine::Create(*std::move(model),
                     {.slots = kSlots, .session_memory = 1 << 20, .delivery_threads = 1}, nullptr);
  BASED_CHECK(engine.ok());
  return *std::move(engine);
}

// One engine per switches; they live as long as the process.
Engine& EngineOf(uint8_t switches) {
  static std::array<Engine*, 4> engines{};
  Engine*& engine = engines[switches & 3];
  if (engine == nullptr) engine = MakeEngine((switches & 1) != 0, (switches & 2) != 0).release();
  return *engine;
}

class SilentErrors final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
};

bool ReadMessage(std::string_view bytes, bool as_text, google::protobuf::Message& message) {
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
              code == absl::StatusCode::kAlreadyExists ||  // a session
              code == absl::StatusCode::kFailedPrecondition || code == absl::StatusCode::kNotFound);
  BASED_CHECK(!status.message().empty());
}

// What Engine::Submit promises of a request that it takes.
void CheckAccepted(const Request& request, const std::vector<int32_t>& ids) {
  const EngineOptions limits;
  BASED_CHECK(request.sampling.temperature >= 0 && request.sampling.temperature <= 100);
  BASED_CHECK(request.sampling.top_p > 0 && request.sampling.top_p <= 1);
  BASED_CHECK(request.sampling.min_p >= 0 && request.sampling.min_p <= 1);
  BASED_CHECK(request.stop.max_tokens >= 1 && request.stop.max_tokens <= limits.max_output_tokens);
  BASED_CHECK(request.best_of >= request.n && request.n >= 1 && request.best_of <= kSlots);
  BASED_CHECK(request.output.top_logprobs >= 0 && request.output.top_logprobs <= 20);
  BASED_CHECK(request.stop.min_tokens >= 0 && request.stop.min_tokens <= request.stop.max_tokens);
  BASED_CHECK(!ids.empty());
  for (const int32_t id : ids) BASED_CHECK(id >= 0 && id < kVocabulary);
}

void Run(Request request, Engine& engine) {
  const auto sink = std::make_shared<CheckingSink>(request, kVocabulary);
  const absl::StatusOr<RequestId> id = engine.Submit(std::move(request), sink);
  if (!id.ok()) return CheckRefusal(id.status());
  sink->WaitAndCheck();
}

void Generate(Request request, Engine& engine) {
  const Model& model = engine.model();
  const EngineOptions limits;
  if (const absl::Status status = ValidateRequest(request, model, limits, kSlots); !status.ok()) {
    return CheckRefusal(status);
  }
  const absl::StatusOr<std::vector<int32_t>> ids = PromptTokens(request, model, limits);
  if (!ids.ok()) return CheckRefusal(ids.status());
  CheckAccepted(request, *ids);
  if (ids->size() > kMostPrompt) return;
  int64_t& most = request.stop.max_tokens;
  most = std::min(most, std::max<int64_t>(1, kMostGenerated / request.best_of));
  request.stop.min_tokens = std::min(request.stop.min_tokens, most);
  Run(std::move(request), engine);
}

void Score(const v1::ScoreRequest& message, Engine& engine) {
  absl::StatusOr<std::vector<ScoreGroup>> groups =
      ScoresFromProto(message, engine.model(), engine.capacity());
  if (!groups.ok()) return CheckRefusal(groups.status());
  size_t pairs = 0;
  size_t tokens = 0;
  for (const ScoreGroup& group : *groups) {
    BASED_CHECK(group.pairs.size() >= group.request.continuations.size());
    pairs += group.pairs.size();
    tokens += group.request.prompt_token_ids.size();
    for (const Continuation& own : group.request.continuations) tokens += own.ids.size();
  }
  BASED_CHECK(pairs == static_cast<size_t>(message.pairs_size()));
  if (tokens > 4 * kMostPrompt) return;
  for (ScoreGroup& group : *groups) Run(std::move(group.request), engine);
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  FuzzInput input(data, size);
  const uint8_t switches = input.Byte();
  const bool as_text = (switches & 4) != 0;
  Engine& engine = EngineOf(switches);
  if ((switches & 8) != 0) {
    v1::ScoreRequest scores;
    if (ReadMessage(input.Rest(), as_text, scores)) Score(scores, engine);
    return 0;
  }
  v1::GenerateRequest message;
  if (!ReadMessage(input.Rest(), as_text, message)) return 0;
  const absl::Status named = CheckModelName(message.model(), "demo");
  if (!named.ok()) CheckRefusal(named);
  absl::StatusOr<Request> request = RequestFromProto(message, engine.model().tokenizer != nullptr);
  if (request.ok()) {
    Generate(*std::move(request), engine);
  } else {
    CheckRefusal(request.status());
  }
  return 0;
}
