#include "engine/jinja/parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/expression_parser.h"
#include "engine/jinja/functions.h"
#include "engine/jinja/lexer.h"
#include "engine/jinja/token_stream.h"
#include "kernels/base/status.h"

namespace based::jinja {
namespace {

using Kind = Statement::Kind;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  absl::StatusOr<Block> Run() {
    Block block = ParseBlock({});
    CheckCalls();
    if (!tokens_.ok()) return tokens_.status();
    if (!call_status_.ok()) return call_status_;
    return block;
  }

 private:
  using Names = std::vector<std::string_view>;

  // A function is ours or a macro, which may stand after its call.
  void CheckCalls() {
    for (const auto& [name, line] : expressions_.called()) {
      const bool known = FindFunction(name) != nullptr ||
                         std::find(macros_.begin(), macros_.end(), name) != macros_.end();
      if (!known && call_status_.ok()) {
        call_status_ = absl::InvalidArgumentError(
            absl::StrCat("line ", line, ": the function '", name, "' is not supported"));
      }
    }
  }

  // Statements up to the tag that begins with one of `ends`, which is current then; or up to the
  // template's end, if there are none.
  Block ParseBlock(const Names& ends) {
    Block block;
    if (++nesting_ > kMaxNesting) {
      tokens_.Fail(absl::StrCat("blocks nest deeper than ", kMaxNesting));
    }
    while (!tokens_.Is(Token::Kind::kEnd)) {
      const int line = tokens_.Current().line;
      if (tokens_.Is(Token::Kind::kText)) {
        block.push_back({.kind = Kind::kText, .line = line, .text = tokens_.Take().text});
      } else if (tokens_.Is(Token::Kind::kPrintBegin)) {
        tokens_.Take();
        block.push_back({.kind = Kind::kPrint, .line = line});
        block.back().exprs.push_back(expressions_.Conditional());
        tokens_.Expect(Token::Kind::kPrintEnd, "'}}'");
      } else {
        tokens_.Expect(Token::Kind::kBlockBegin, "a tag");
        const bool end = std::any_of(ends.begin(), ends.end(), [this](std::string_view name) {
          return tokens_.IsName(name);
        });
        if (end) break;
        block.push_back(ParseStatement(line));
      }
    }
    if (tokens_.Is(Token::Kind::kEnd) && !ends.empty()) {
      tokens_.Unexpected(absl::StrCat("the tag '", View(ends.back()), "'"));
    }
    --nesting_;
    return block;
  }

  static absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

  void EndTag() { tokens_.Expect(Token::Kind::kBlockEnd, "'%}'"); }

  Statement ParseStatement(int line) {
    Statement statement = {.kind = Kind::kText, .line = line};
    const std::string name = tokens_.Current().text;
    if (!tokens_.Is(Token::Kind::kName)) {
      tokens_.Unexpected("a tag's name");
    } else if (name == "if") {
      ParseIf(statement);
    } else if (name == "for") {
      ParseFor(statement);
    } else if (name == "set") {
      ParseSet(statement);
    } else if (name == "macro") {
      ParseMacro(statement);
    } else if (name == "generation") {
      tokens_.Take();
      EndTag();
      statement.kind = Kind::kScope;
      statement.blocks.push_back(Body("endgeneration"));
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) tokens_.Fail(absl::StrCat("'", name, "' stands outside of a loop"));
      tokens_.Take();
      EndTag();
      statement.kind = name == "break" ? Kind::kBreak : Kind::kContinue;
    } else {
      tokens_.Fail(absl::StrCat("the tag '", name, "' is not supported here"));
    }
    return statement;
  }

  // The statements before the tag `end`, and that tag.
  Block Body(std::string_view end) {
    Block block = ParseBlock({end});
    tokens_.Take();
    EndTag();
    return block;
  }

  void ParseIf(Statement& statement) {
    statement.kind = Kind::kIf;
    do {
      tokens_.Take();
      statement.exprs.push_back(expressions_.Conditional());
      EndTag();
      statement.blocks.push_back(ParseBlock({"elif", "else", "endif"}));
    } while (tokens_.IsName("elif"));
    if (tokens_.SkipName("else")) {
      EndTag();
      statement.blocks.push_back(ParseBlock({"endif"}));
    }
    tokens_.Take();
    EndTag();
  }

  void ParseFor(Statement& statement) {
    statement.kind = Kind::kFor;
    tokens_.Take();
    const bool parentheses = tokens_.SkipOperator("(");
    do {
      statement.names.push_back(tokens_.ExpectName("a variable of the loop"));
    } while (tokens_.SkipOperator(","));
    if (parentheses) tokens_.ExpectOperator(")");
    if (!tokens_.SkipName("in")) tokens_.Unexpected("'in'");
    statement.exprs.push_back(expressions_.Or());
    statement.exprs.push_back(tokens_.SkipName("if") ? expressions_.Conditional() : nullptr);
    if (tokens_.IsName("recursive")) tokens_.Fail("a recursive loop is not supported");
    EndTag();
    ++loops_;
    statement.blocks.push_back(ParseBlock({"else", "endfor"}));
    --loops_;
    statement.blocks.emplace_back();
    if (tokens_.SkipName("else")) {
      EndTag();
      statement.blocks.back() = ParseBlock({"endfor"});
    }
    tokens_.Take();
    EndTag();
  }

  void ParseSet(Statement& statement) {
    tokens_.Take();
    statement.names.push_back(tokens_.ExpectName("a variable"));
    if (tokens_.SkipOperator(".")) statement.text = tokens_.ExpectName("an attribute");
    if (tokens_.IsOperator(",")) tokens_.Fail("'set' of several variables is not supported");
    if (tokens_.SkipOperator("=")) {
      statement.kind = Kind::kSet;
      statement.exprs.push_back(expressions_.Conditional());
      EndTag();
      return;
    }
    statement.kind = Kind::kSetBlock;
    if (tokens_.IsOperator("|")) tokens_.Fail("'set' of a filtered block is not supported");
    EndTag();
    statement.blocks.push_back(Body("endset"));
  }

  void ParseMacro(Statement& statement) {
    statement.kind = Kind::kMacro;
    // So that a macro sees the template's own variables and no others.
    if (loops_ > 0 || in_macro_) {
      tokens_.Fail("a macro within a loop or another macro is not supported");
    }
    tokens_.Take();
    macros_.push_back(tokens_.ExpectName("a macro's name"));
    statement.names.push_back(macros_.back());
    tokens_.ExpectOperator("(");
    while (tokens_.ok() && !tokens_.IsOperator(")")) {
      statement.names.push_back(tokens_.ExpectName("a parameter"));
      const bool optional = tokens_.SkipOperator("=");
      statement.exprs.push_back(optional ? expressions_.Conditional() : nullptr);
      if (!tokens_.IsOperator(")")) tokens_.ExpectOperator(",");
    }
    tokens_.ExpectOperator(")");
    EndTag();
    in_macro_ = true;
    statement.blocks.push_back(Body("endmacro"));
    in_macro_ = false;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  std::vector<std::string> macros_;
  absl::Status call_status_;
  int nesting_ = 0;
  int loops_ = 0;
  bool in_macro_ = false;
};

}  // namespace

absl::StatusOr<Block> Parse(std::string_view source) {
  BASED_ASSIGN_OR_RETURN(std::vector<Token> tokens, Lex(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace based::jinja
