#include "engine/batch_result.h"

#include <fcntl.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

// How every result ends that is one.
constexpr char kNoError[] = ",\"error\":null}";
constexpr int64_t kMaxResultBytes = int64_t{1} << 30;

// "batch_req_<input>_<line>": of this input and no other.
std::string IdOf(const std::string& input, int32_t line) {
  return absl::StrCat("batch_req_", input, "_", line);
}

Json Begin(const BatchResultHead& head) {
  // "id" comes first: FailuresInOutput looks for it at the beginning of the line.
  Json result = {{"id", IdOf(head.input, head.line)}};
  if (head.form == BatchForm::kPlain) result["line"] = head.line;
  if (!head.custom_id.empty()) result["custom_id"] = head.custom_id;
  return result;
}

void AddPlain(Json& completion, Json& result) {
  size_t index = 0;
  for (Json& choice : completion["choices"]) {
    Json& target = index++ == 0 ? result : result["others"].emplace_back();
    for (const char* field : {"text", "token_ids", "logprobs", "finish_reason"}) {
      const auto found = choice.find(field);
      if (found != choice.end() && !found->is_null()) target[field] = std::move(*found);
    }
  }
  result["usage"] = std::move(completion["usage"]);
}

std::string Dump(const Json& result) {
  return result.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

std::string BatchResultJson(const BatchResultHead& head, const std::string& request_id,
                            Json completion) {
  Json result = Begin(head);
  if (head.form == BatchForm::kPlain) {
    AddPlain(completion, result);
  } else {
    result["response"] = {
        {"status_code", 200}, {"request_id", request_id}, {"body", std::move(completion)}};
  }
  result["error"] = nullptr;
  return Dump(result);
}

std::string BatchErrorJson(const BatchResultHead& head, const absl::Status& status) {
  Json result = Begin(head);
  if (head.form != BatchForm::kPlain) result["response"] = nullptr;
  result["error"] = {{"code", absl::StatusCodeToString(status.code())},
                     {"message", std::string(status.message())}};
  return Dump(result);
}

absl::StatusOr<std::optional<int64_t>> FailuresInOutput(const std::string& output,
                                                        const BatchPlan& plan) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(output, O_RDONLY));
  LineReader reader(file.get(), output, kMaxResultBytes);
  int64_t failed = 0;
  for (const BatchEntry& entry : plan.entries()) {
    BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
    const std::string begin = absl::StrCat("{\"id\":\"", IdOf(plan.digest(), entry.line), "\",");
    if (!more || !absl::StartsWith(reader.line(), begin)) return std::nullopt;
    failed += !absl::EndsWith(reader.line(), kNoError);
  }
  BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
  if (more) return std::nullopt;
  return failed;
}

absl::Status CheckSomeSucceeded(int64_t failed, int64_t lines, const std::string& output) {
  if (failed < lines || lines == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(lines == 1 ? "the only line has" : absl::StrCat("all ", lines, " lines have"),
                   " an error in place of a result, see ", output));
}

}  // namespace based
