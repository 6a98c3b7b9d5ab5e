#include "engine/jinja/json_text.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/jinja/text.h"
#include "engine/utf8.h"

namespace based::jinja {
namespace {

void AppendUnit(uint32_t unit, std::string& out) { out += absl::StrFormat("\\u%04x", unit); }

void AppendEscaped(char32_t character, std::string& out) {
  if (character < 0x10000) return AppendUnit(character, out);
  AppendUnit(0xD800 + ((character - 0x10000) >> 10), out);
  AppendUnit(0xDC00 + ((character - 0x10000) & 0x3FF), out);
}

std::string Quoted(std::string_view text, bool ensure_ascii) {
  constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f";
  constexpr std::string_view kLetters = "\"\\nrtbf";
  std::string out = "\"";
  for (const std::string_view character : Characters(text)) {
    const char first = character[0];
    if (const size_t at = kEscaped.find(first); at != std::string_view::npos) {
      out += {'\\', kLetters[at]};
    } else if (static_cast<uint8_t>(first) < 0x20) {
      AppendUnit(static_cast<uint8_t>(first), out);
    } else if (ensure_ascii && character.size() > 1) {
      AppendEscaped(FirstCharacter(character), out);
    } else {
      out += character;
    }
  }
  return out + '"';
}

std::string NumberText(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
  return FloatText(number);
}

class Writer {
 public:
  Writer(Run& run, const JsonStyle& style) : run_(run), style_(style) {}

  void Write(const Value& value) {
    using Kind = Value::Kind;
    if (!run_.Step()) return;
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBool:
        out_ += value.boolean() ? "true" : "false";
        return;
      case Kind::kInteger:
        absl::StrAppend(&out_, value.integer());
        return;
      case Kind::kFloat:
        out_ += NumberText(value.number());
        return;
      case Kind::kString:
        return WriteString(value.string());
      case Kind::kList:
        return WriteList(value.items());
      case Kind::kDict:
        return WriteDict(value.entries());
      default:
        run_.Fail(absl::StrCat("tojson of ", value.type_name(), " is not possible"));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  void WriteString(const std::string& text) {
    // The characters lie in a table of views while they are written.
    if (run_.Spend(text.size() * sizeof(std::string_view))) {
      out_ += Quoted(text, style_.ensure_ascii);
    }
  }

  void Separate(const std::string& separator) {
    if (run_.Spend(separator.size())) out_ += separator;
  }

  void NewLine() {
    if (!style_.indent || !run_.Spend(style_.indent->size() * level_)) return;
    out_ += '\n';
    for (size_t i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  void WriteList(const Items& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size() && run_.ok(); ++i) {
      if (i > 0) Separate(style_.between_items);
      NewLine();
      Write(items[i]);
    }
    --level_;
    NewLine();
    out_ += ']';
  }

  void WriteDict(const Entries& entries) {
    if (entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<std::string, Value>*> order;
    for (const auto& entry : entries) order.push_back(&entry);
    if (style_.sort_keys) {
      std::sort(order.begin(), order.end(),
                [](const auto* left, const auto* right) { return left->first < right->first; });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < order.size() && run_.ok(); ++i) {
      if (i > 0) Separate(style_.between_items);
      NewLine();
      WriteString(order[i]->first);
      Separate(style_.after_key);
      Write(order[i]->second);
    }
    --level_;
    NewLine();
    out_ += '}';
  }

  Run& run_;
  const JsonStyle& style_;
  std::string out_;
  size_t level_ = 0;
};

}  // namespace

std::string JsonText(Run& run, const Value& value, const JsonStyle& style) {
  Writer writer(run, style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace based::jinja
