#include "engine/chat_template.h"

#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json_file.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using json_reader::Json;
using json_reader::Member;

constexpr int kFileDepth = 32;
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};
// Variables that are the daemon's to set.
constexpr const char* kGiven[] = {"messages", "tools", "documents", "add_generation_prompt"};
constexpr char kConfig[] = "tokenizer_config.json";

using Folder = std::filesystem::path;

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

// The object in the file `name`, empty where there is no such file.
absl::StatusOr<Json> ReadObject(const Folder& dir, const std::string& name) {
  const absl::StatusOr<std::string> text = ReadWholeFile((dir / name).string(), kMaxJsonBytes);
  if (absl::IsNotFound(text.status())) return Json::object();
  if (!text.ok()) return text.status();
  return ParseJsonObject(*text, name, kFileDepth);
}

// A token, or an object that holds it; "" for anything else.
std::string TokenOf(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && Member(value, "content").is_string()) return value["content"];
  return "";
}

Json SpecialTokens(const Json& config, const Json& map) {
  Json tokens = Json::object();
  for (const char* name : kSpecialTokens) {
    std::string token = TokenOf(Member(config, name));
    if (token.empty()) token = TokenOf(Member(map, name));
    if (!token.empty()) tokens[name] = std::move(token);
  }
  return tokens;
}

// The template in the member "chat_template"; nullopt where there is none.
absl::StatusOr<std::optional<std::string>> TemplateIn(const Json& document,
                                                      const std::string& file) {
  const Json& member = Member(document, "chat_template");
  if (member.is_null()) return std::nullopt;
  if (member.is_string()) return member.get<std::string>();
  if (member.is_array()) {
    for (const Json& named : member) {
      if (named.is_object() && Member(named, "name") == "default" &&
          Member(named, "template").is_string()) {
        return named["template"].get<std::string>();
      }
    }
  }
  return Invalid(absl::StrCat(file, ": chat_template is ", JsonExcerpt(member),
                              "; expected a string, or a list with a template named 'default'"));
}

// A number of `value` that may be an integer beyond 64 bits, which JSON holds as a double and
// Python as it is; null if there is none.
const Json* FindTooLarge(const Json& value) {
  constexpr double kLimit = 9223372036854775808.0;
  if (value.is_number()) {
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() < static_cast<uint64_t>(kLimit)
                          : value.is_number_integer() || std::fabs(value.get<double>()) < kLimit;
    return fits ? nullptr : &value;
  }
  if (!value.is_structured()) return nullptr;
  for (const Json& part : value) {
    if (const Json* found = FindTooLarge(part); found != nullptr) return found;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(const std::string& dir) {
  constexpr char kJinja[] = "chat_template.jinja";
  constexpr char kJson[] = "chat_template.json";
  const Folder folder(dir);
  BASED_ASSIGN_OR_RETURN(const Json config, ReadObject(folder, kConfig));
  BASED_ASSIGN_OR_RETURN(const Json map, ReadObject(folder, "special_tokens_map.json"));
  Json tokens = SpecialTokens(config, map);
  absl::StatusOr<std::string> file =
      ReadWholeFile((folder / kJinja).string(), jinja::kMaxSourceBytes);
  if (file.ok()) return Create(kJinja, *file, std::move(tokens));
  if (!absl::IsNotFound(file.status())) return file.status();
  BASED_ASSIGN_OR_RETURN(const std::optional<std::string> member, TemplateIn(config, kConfig));
  if (member) {
    return Create(absl::StrCat("chat_template of ", kConfig), *member, std::move(tokens));
  }
  BASED_ASSIGN_OR_RETURN(const Json document, ReadObject(folder, kJson));
  BASED_ASSIGN_OR_RETURN(const std::optional<std::string> other, TemplateIn(document, kJson));
  if (!other) return nullptr;
  return Create(kJson, *other, std::move(tokens));
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Create(
    std::string name, std::string_view source, nlohmann::json special_tokens) {
  absl::StatusOr<jinja::Template> program = jinja::Template::Compile(source);
  if (!program.ok()) {
    return Invalid(absl::StrCat(name, ": ", program.status().message()));
  }
  return std::shared_ptr<const ChatTemplate>(
      new ChatTemplate(std::move(name), *std::move(program), std::move(special_tokens)));
}

absl::StatusOr<std::string> ChatTemplate::Render(const Json& messages, bool add_generation_prompt,
                                                 const Json& more,
                                                 std::chrono::system_clock::time_point now) const {
  using jinja::Value;
  for (const char* name : kGiven) {
    if (more.contains(name)) {
      return Invalid(absl::StrCat("chat_template_kwargs.", name,
                                  " is set; expected other names, the template is always given ",
                                  absl::StrJoin(kGiven, ", ")));
    }
  }
  for (const Json* given : {&messages, &more}) {
    if (const Json* number = FindTooLarge(*given); number != nullptr) {
      return Invalid(absl::StrCat(given == &messages ? "messages" : "chat_template_kwargs",
                                  " hold the number ", number->dump(),
                                  "; expected at most 64 bits, or a string"));
    }
  }
  jinja::Entries globals;
  for (const auto& [name, value] : special_tokens_.items()) {
    globals.emplace_back(name, Value::OfJson(value));
  }
  for (const auto& [name, value] : more.items()) {
    SetEntry(globals, name, Value::OfJson(value));
  }
  SetEntry(globals, "messages", Value::OfJson(messages));
  SetEntry(globals, "tools", Value::None());
  SetEntry(globals, "documents", Value::None());
  SetEntry(globals, "add_generation_prompt", add_generation_prompt);
  absl::StatusOr<std::string> text = program_.Render(std::move(globals), now);
  if (text.ok()) return text;
  if (absl::IsAborted(text.status())) {
    return Invalid(absl::StrCat("messages are refused by the model's chat template: ",
                                text.status().message()));
  }
  return Invalid(absl::StrCat("messages cannot be rendered by the model's chat template (", name_,
                              "): ", text.status().message()));
}

std::string ChatTemplate::eos_token() const {
  const Json& token = Member(special_tokens_, "eos_token");
  return token.is_string() ? token.get<std::string>() : "";
}

}  // namespace based
