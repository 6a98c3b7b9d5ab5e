// Prints what constraints cost over a tokenizer's vocabulary: compilation, and per token of random
// texts that match, the mask and its acceptance.
//   constraint_bench TOKENIZER_DIR [FILE...]
// A file is a JSON schema where its name ends in .json, else a grammar. Without files, over
// constraints of its own: any JSON, an object of 60 properties, a bounded string, prose in quotes,
// a JSON schema of 5 KB. "first" is a constraint without masks yet; "other" then other texts;
// "again" the same texts as "other": all masks are there.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/constraint.h"
#include "engine/constraint/ebnf.h"
#include "engine/constraint/json_schema.h"
#include "engine/tokenizer.h"

namespace based {
namespace {

constexpr int kWalks = 40;
constexpr int kMostTokens = 200;

constexpr char kJsonRules[] = R"gbnf(
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (pair ("," ws pair)*)? "}" ws
pair   ::= string ":" ws value
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= [ \t\n\r]{0,20}
)gbnf";

std::string ObjectGrammar() {
  std::string root = "root ::= \"{\"";
  const char* kinds[] = {"string",
                         "number",
                         "(\"true\" | \"false\")",
                         "strings",
                         "(\"\\\"red\\\"\" | \"\\\"green\\\"\" | \"\\\"blue\\\"\")",
                         "person"};
  for (int i = 0; i < 60; ++i) {
    absl::StrAppend(&root, i == 0 ? "" : " \", \"", " \"\\\"property_", i, "\\\": \" ",
                    kinds[i % 6]);
  }
  return absl::StrCat(root, " \"}\"\n",
                      "strings ::= \"[\" (string (\", \" string)*)? \"]\"\n"
                      "person ::= \"{\\\"name\\\": \" string \", \\\"age\\\": \" number "
                      "\", \\\"friends\\\": [\" (person (\", \" person)*)? \"]}\"\n",
                      kJsonRules);
}

// Members of every kind, 5 KB together.
std::string SchemaText() {
  const char* kinds[] = {
      R"({"type": "string", "minLength": 1, "maxLength": 40})",
      R"({"type": "integer", "minimum": 0, "maximum": 100000})",
      R"({"type": ["number", "null"], "exclusiveMinimum": -1.5})",
      R"({"enum": ["red", "green", "dark blue", 17, null]})",
      R"({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 8})",
      R"({"type": "string", "format": "date-time"})",
      R"({"type": "string", "pattern": "^[A-Z]{2}-\\d{4}$"})",
      R"({"$ref": "#/$defs/person"})"};
  std::string properties;
  std::string required;
  for (int i = 0; i < 64; ++i) {
    absl::StrAppend(&properties, i == 0 ? "" : ", ", "\"property_", i, "\": ", kinds[i % 8]);
    if (i % 3 != 0) absl::StrAppend(&required, i == 1 ? "" : ", ", "\"property_", i, "\"");
  }
  return absl::StrCat(
      R"({"type": "object", "properties": {)", properties, R"(}, "required": [)", required,
      R"(], "additionalProperties": false, "$defs": {"person": {"type": "object", "properties": )"
      R"({"name": {"type": "string"}, "age": {"type": "integer"}, "friends": {"type": "array", )"
      R"("items": {"$ref": "#/$defs/person"}}}, "required": ["name"]}}})");
}

absl::StatusOr<Grammar> GrammarOfSchema(std::string_view text) {
  return JsonSchemaGrammar(text, JsonSchemaLimits());
}

using FrontEnd = absl::StatusOr<Grammar> (*)(std::string_view);

struct Times {
  std::vector<double> mask_us;
  std::vector<double> accept_us;
};

double Microseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - since)
      .count();
}

// A token of the mask, each as likely; -1 for none.
int32_t Draw(absl::Span<const uint32_t> mask, std::mt19937& random) {
  int64_t count = 0;
  for (const uint32_t word : mask) count += __builtin_popcount(word);
  if (count == 0) return -1;
  int64_t left = std::uniform_int_distribution<int64_t>(0, count - 1)(random);
  for (size_t word = 0; word < mask.size(); ++word) {
    const int here = __builtin_popcount(mask[word]);
    if (left >= here) {
      left -= here;
      continue;
    }
    uint32_t bits = mask[word];
    for (; left > 0; --left) bits &= bits - 1;
    return static_cast<int32_t>(word * 32) + __builtin_ctz(bits);
  }
  return -1;
}

// Half of the draws end what is open: masks of open strings hold little else than more text.
int32_t DrawToken(const TokenTrie& trie, absl::Span<const uint32_t> mask, std::mt19937& random) {
  if (random() % 2 == 0) {
    for (const char closing : {'"', ']', '}'}) {
      for (const int32_t token : trie.TokensOfByte(static_cast<uint8_t>(closing))) {
        if (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) return token;
      }
    }
  }
  return Draw(mask, random);
}

Times Walk(const std::shared_ptr<const Constraint>& constraint, uint32_t seed) {
  Times times;
  for (int walk = 0; walk < kWalks; ++walk) {
    std::mt19937 random(seed + static_cast<uint32_t>(walk));
    ConstraintMatcher matcher(constraint);
    for (int i = 0; i < kMostTokens && !matcher.MustEnd(); ++i) {
      auto start = std::chrono::steady_clock::now();
      const absl::Span<const uint32_t> mask = matcher.Mask();
      times.mask_us.push_back(Microseconds(start));
      const int32_t token = DrawToken(constraint->trie(), mask, random);
      start = std::chrono::steady_clock::now();
      if (!matcher.Accept(token)) return times;
      times.accept_us.push_back(Microseconds(start));
    }
  }
  return times;
}

void Print(const char* what, Times times) {
  double sum = 0;
  for (const double us : times.mask_us) sum += us;
  double accept = 0;
  for (const double us : times.accept_us) accept += us;
  const auto count = static_cast<double>(times.mask_us.size());
  std::sort(times.mask_us.begin(), times.mask_us.end());
  std::printf(
      "  %-6s tokens=%zu mask_us mean=%.2f p50=%.2f p99=%.2f max=%.1f accept_us mean=%.2f\n", what,
      times.mask_us.size(), sum / count, times.mask_us[times.mask_us.size() / 2],
      times.mask_us[times.mask_us.size() * 99 / 100], times.mask_us.back(), accept / count);
}

int Run(const std::string& name, const std::string& text, FrontEnd front_end,
        const std::shared_ptr<const TokenTrie>& trie) {
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<Grammar> grammar = front_end(text);
  if (!grammar.ok()) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), grammar.status().ToString().c_str());
    return 1;
  }
  const auto constraint = Constraint::Compile(*grammar, trie, ConstraintLimits());
  const double compile_us = Microseconds(start);
  if (!constraint.ok()) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), constraint.status().ToString().c_str());
    return 1;
  }
  std::printf("%s: text_bytes=%zu compile_ms=%.2f states=%d\n", name.c_str(), text.size(),
              compile_us / 1e3, (*constraint)->state_count());
  Print("first", Walk(*constraint, 1));
  Print("other", Walk(*constraint, 1'000));
  Print("again", Walk(*constraint, 1'000));
  std::printf("  bytes=%lld\n", static_cast<long long>((*constraint)->bytes()));
  return 0;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: constraint_bench TOKENIZER_DIR [FILE...]\n");
    return 2;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto trie = TokenTrie::Create(**tokenizer, (*tokenizer)->size(), TokenTrie::kNoToken);
  if (!trie.ok()) {
    std::fprintf(stderr, "%s\n", trie.status().ToString().c_str());
    return 1;
  }
  std::printf("vocabulary=%d nodes=%zu trie_ms=%.1f\n", (*trie)->vocab_size(),
              (*trie)->nodes().size(), Microseconds(start) / 1e3);
  int failed = 0;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    failed |= Run(argv[i], {std::istreambuf_iterator<char>(file), {}},
                  absl::EndsWith(argv[i], ".json") ? GrammarOfSchema : EbnfGrammar, *trie);
  }
  if (argc > 2) return failed;
  failed |= Run("json", absl::StrCat("root ::= ws value\n", kJsonRules), EbnfGrammar, *trie);
  failed |= Run("object", ObjectGrammar(), EbnfGrammar, *trie);
  failed |= Run("bounded", R"(root ::= "{\"text\": \"" [^"\\\x00-\x1F]{0,1000} "\"}")", EbnfGrammar,
                *trie);
  failed |= Run("prose", R"(root ::= ("\"" [A-Z] [^"]* [.!?] "\"" "\n")*)", EbnfGrammar, *trie);
  failed |= Run("schema", SchemaText(), GrammarOfSchema, *trie);
  return failed;
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) { return based::Main(argc, argv); }
