#include "server/openai_logprobs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/openai_json.h"

namespace based {
namespace {

void Separate(std::string& list) {
  if (!list.empty()) list += ',';
}

// Characters that begin in `bytes`.
int64_t Characters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; });
}

}  // namespace

void OpenAiLogprobs::AddFirst(int32_t id) {
  begun_ = true;
  AddLegacy(nullptr, id);
}

void OpenAiLogprobs::Add(const TokenLogprob& token) {
  begun_ = true;
  if (form_ == Form::kLegacy) {
    AddLegacy(&token, token.token_id);
  } else {
    AddChat(token);
  }
}

std::string OpenAiLogprobs::Take() {
  std::string out;
  if (form_ == Form::kChat) {
    out = absl::StrCat("{\"content\":[", tokens_, "],\"refusal\":null}");
  } else {
    out = absl::StrCat("{\"tokens\":[", tokens_, "],\"token_logprobs\":[", token_logprobs_,
                       "],\"top_logprobs\":");
    top_ ? absl::StrAppend(&out, "[", top_logprobs_, "]") : absl::StrAppend(&out, "null");
    absl::StrAppend(&out, ",\"text_offset\":[", text_offsets_, "]}");
  }
  tokens_.clear();
  token_logprobs_.clear();
  top_logprobs_.clear();
  text_offsets_.clear();
  return out;
}

void OpenAiLogprobs::AddLegacy(const TokenLogprob* token, int32_t id) {
  for (std::string* list : {&tokens_, &token_logprobs_, &top_logprobs_, &text_offsets_}) {
    Separate(*list);
  }
  AppendJsonString(TextOf(id), tokens_);
  absl::StrAppend(&text_offsets_, offset_);
  if (tokenizer_ != nullptr) offset_ += Characters(tokenizer_->Bytes(id, /*skip_special=*/true));
  if (token == nullptr) {
    token_logprobs_ += "null";
    top_logprobs_ += "null";
    return;
  }
  AppendJsonLogprob(token->logprob, token_logprobs_);
  AppendTop(*token);
}

void OpenAiLogprobs::AppendTop(const TokenLogprob& token) {
  if (!top_) return;
  top_logprobs_ += '{';
  bool drawn = false;
  for (const TokenScore& score : token.alternatives) {
    if (top_logprobs_.back() != '{') top_logprobs_ += ',';
    AppendJsonString(TextOf(score.id), top_logprobs_);
    top_logprobs_ += ':';
    AppendJsonLogprob(score.logprob, top_logprobs_);
    drawn = drawn || score.id == token.token_id;
  }
  if (!drawn) {  // the drawn token is always told
    if (top_logprobs_.back() != '{') top_logprobs_ += ',';
    AppendJsonString(TextOf(token.token_id), top_logprobs_);
    top_logprobs_ += ':';
    AppendJsonLogprob(token.logprob, top_logprobs_);
  }
  top_logprobs_ += '}';
}

void OpenAiLogprobs::AddChat(const TokenLogprob& token) {
  Separate(tokens_);
  tokens_ += '{';
  AppendChatToken(token.token_id, token.logprob, tokens_);
  tokens_ += ",\"top_logprobs\":[";
  for (const TokenScore& score : token.alternatives) {
    tokens_ += tokens_.back() == '[' ? "{" : ",{";
    AppendChatToken(score.id, score.logprob, tokens_);
    tokens_ += '}';
  }
  tokens_ += "]}";
}

void OpenAiLogprobs::AppendChatToken(int32_t id, double logprob, std::string& out) const {
  out += "\"token\":";
  AppendJsonString(TextOf(id), out);
  out += ",\"logprob\":";
  AppendJsonLogprob(logprob, out);
  out += ",\"bytes\":";
  if (tokenizer_ == nullptr) {
    out += "null";
    return;
  }
  out += '[';
  for (const char byte : tokenizer_->Bytes(id, /*skip_special=*/false)) {
    if (out.back() != '[') out += ',';
    absl::StrAppend(&out, static_cast<int>(static_cast<uint8_t>(byte)));
  }
  out += ']';
}

std::string OpenAiLogprobs::TextOf(int32_t id) const {
  if (tokenizer_ == nullptr) return absl::StrCat("token_id:", id);
  const std::string_view bytes = tokenizer_->Bytes(id, /*skip_special=*/false);
  if (FindInvalidUtf8(bytes) == std::string::npos) return std::string(bytes);
  std::string text = "bytes:";
  for (const char byte : bytes) absl::StrAppendFormat(&text, "\\x%02x", static_cast<uint8_t>(byte));
  return text;
}

}  // namespace based
