#include "server/batch_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"
#include "xxhash.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr char kRecord[] = "/job.json";
constexpr int64_t kMaxRecordBytes = 1 << 20;

const char* NameOf(BatchState state) {
  switch (state) {
    case BatchState::kCompleted:
      return "completed";
    case BatchState::kCancelled:
      return "cancelled";
    default:
      return "queued";
  }
}

int64_t CountOf(const Json& json, const char* field) {
  const auto found = json.find(field);
  return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

}  // namespace

std::string BatchFolderName(const std::string& tenant, const std::string& id) {
  std::string name = id;
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-') c = '_';
  }
  const std::string whole = absl::StrCat(tenant, absl::string_view("\0", 1), id);
  return absl::StrFormat("%s-%016x", name, XXH3_64bits(whole.data(), whole.size()));
}

absl::StatusOr<BatchRecord> ReadBatchRecord(const std::string& folder) {
  const std::string path = folder + kRecord;
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxRecordBytes));
  BASED_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, path, 3));
  JsonFields fields(json, path, "");
  BatchRecord record = {.tenant = fields.String("tenant"),
                        .id = fields.String("id"),
                        .model = fields.String("model"),
                        .model_digest = fields.String("model_digest"),
                        .input = fields.String("input"),
                        .lines = CountOf(json, "lines"),
                        .finished = CountOf(json, "finished"),
                        .failed = CountOf(json, "failed"),
                        .generated_tokens = CountOf(json, "generated_tokens"),
                        .created_ms = CountOf(json, "created_ms"),
                        .ended_ms = CountOf(json, "ended_ms")};
  const std::string state = fields.String("state");
  if (state == "completed") {
    record.state = BatchState::kCompleted;
  } else if (state == "cancelled") {
    record.state = BatchState::kCancelled;
  } else if (state != "queued") {
    fields.Wrong("state", state, "queued, completed or cancelled");
  }
  if (record.lines < 1) fields.Wrong("lines", record.lines, "1 or more");
  if (const Json* ignored = fields.Find("ignored_fields"); ignored != nullptr) {
    for (const Json& name : *ignored) {
      if (name.is_string()) record.ignored_fields.push_back(name.get<std::string>());
    }
  }
  BASED_RETURN_IF_ERROR(fields.status());
  return record;
}

absl::Status WriteBatchRecord(const BatchRecord& record, const std::string& folder) {
  const nlohmann::ordered_json json = {{"tenant", record.tenant},
                                       {"id", record.id},
                                       {"state", NameOf(record.state)},
                                       {"model", record.model},
                                       {"model_digest", record.model_digest},
                                       {"input", record.input},
                                       {"lines", record.lines},
                                       {"finished", record.finished},
                                       {"failed", record.failed},
                                       {"generated_tokens", record.generated_tokens},
                                       {"created_ms", record.created_ms},
                                       {"ended_ms", record.ended_ms},
                                       {"ignored_fields", record.ignored_fields}};
  const std::string text =
      json.dump(1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
  const std::string path = folder + kRecord;
  const std::string temporary = path + ".new";
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file,
                         OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC));
  absl::Status status = WriteAll(file.get(), text, temporary);
  if (status.ok()) status = CommitFile(file.get(), temporary, path);
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

int64_t FileBytes(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

void RemoveFolder(const std::string& folder) {
  std::error_code error;  // what is left is taken up again at the next start
  std::filesystem::remove_all(folder, error);
}

int64_t MillisecondsNow() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace based
