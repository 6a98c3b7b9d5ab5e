#include "engine/batch_envelope.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

// Bodies as deep as those over HTTP, and what is around them.
constexpr int kMaxDepth = 65;

// Where the string that begins at `at` ends: past its quotation mark.
size_t EndOfString(absl::string_view json, size_t at) {
  for (++at; json[at] != '"'; ++at) at += json[at] == '\\';
  return at + 1;
}

// The text of the member `name` of the object `json`, which is well-formed and has it.
absl::string_view TextOf(absl::string_view json, absl::string_view name) {
  int depth = 0;
  bool wanted = false;  // the value that begins is it
  size_t key = 0, begin = 0;
  for (size_t at = 0; at < json.size(); ++at) {
    const char c = json[at];
    if (c == '"') {
      key = at;
      at = EndOfString(json, at) - 1;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == ':' && depth == 1) {
      // A key may be written with escapes.
      wanted = Json::parse(json.substr(key, EndOfString(json, key) - key)) == std::string(name);
      begin = at + 1;
    } else if (wanted && depth == 1 && (c == ',' || c == '}')) {
      return json.substr(begin, at - begin);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return json;
}

absl::StatusOr<BatchEnvelope> ReadOpenAi(absl::string_view text, Json line,
                                         const std::string& place) {
  BatchEnvelope read;
  JsonFields fields(line, place, "");
  read.custom_id = fields.String("custom_id");
  const std::string method = fields.StringOr("method", "POST");
  const std::string url = fields.String("url");
  const Json* body = fields.Object("body");
  BASED_RETURN_IF_ERROR(fields.status());
  if (read.custom_id.empty()) fields.Wrong("custom_id", "", "a name of its own for every line");
  if (method != "POST") fields.Wrong("method", method, "\"POST\"");
  if (url == "/v1/completions") {
    read.form = BatchForm::kCompletion;
  } else if (url == "/v1/chat/completions") {
    read.form = BatchForm::kChat;
  } else {
    fields.Wrong("url", url, "\"/v1/completions\" or \"/v1/chat/completions\"");
  }
  if (body == nullptr) fields.Missing("body", "an object");
  BASED_RETURN_IF_ERROR(fields.status());
  for (const auto& [name, value] : line.items()) {
    const bool known = name == "custom_id" || name == "method" || name == "url" || name == "body";
    if (!known && !value.is_null()) read.ignored.push_back(name);
  }
  read.body = std::move(line["body"]);
  read.raw = TextOf(text, "body");
  return read;
}

}  // namespace

absl::StatusOr<BatchEnvelope> ParseBatchEnvelope(absl::string_view text, const std::string& place) {
  const std::string_view bytes(text.data(), text.size());
  if (const size_t at = FindInvalidUtf8(bytes); at != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": not UTF-8 at byte ", at, " of the line"));
  }
  BASED_ASSIGN_OR_RETURN(Json line, ParseJsonObject(bytes, place, kMaxDepth));
  if (line.contains("url") || line.contains("body"))
    return ReadOpenAi(text, std::move(line), place);
  BatchEnvelope read;
  JsonFields fields(line, place, "");
  read.custom_id = fields.StringOr("custom_id", "");
  BASED_RETURN_IF_ERROR(fields.status());
  line.erase("custom_id");
  read.body = std::move(line);
  read.raw = text;
  return read;
}

}  // namespace based
