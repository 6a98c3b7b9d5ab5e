#include "engine/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace based::jinja {
namespace {

using Kind = Expr::Kind;
using TokenKind = Token::Kind;

}  // namespace

ExprPtr ExpressionParser::Make(Kind kind, std::vector<ExprPtr> args) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = tokens_.Current().line;
  for (const ExprPtr& arg : args) {
    if (arg != nullptr) expr->depth = std::max(expr->depth, arg->depth + 1);
  }
  if (expr->depth > kMaxNesting) {
    tokens_.Fail(absl::StrCat("an expression nests deeper than ", kMaxNesting));
  }
  expr->args = std::move(args);
  return expr;
}

ExprPtr ExpressionParser::Constant(Value value) {
  ExprPtr expr = Make(Kind::kConstant, {});
  expr->constant = std::move(value);
  return expr;
}

ExprPtr ExpressionParser::Conditional() {
  if (++nesting_ > kMaxNesting) {
    tokens_.Fail(absl::StrCat("an expression nests deeper than ", kMaxNesting));
    --nesting_;
    return Constant({});
  }
  ExprPtr expr = Or();
  while (tokens_.SkipName("if")) {
    ExprPtr condition = Or();
    ExprPtr otherwise = tokens_.SkipName("else") ? Conditional() : nullptr;
    expr = Make(Kind::kConditional,
                ExprList(std::move(expr), std::move(condition), std::move(otherwise)));
  }
  --nesting_;
  return expr;
}

ExprPtr ExpressionParser::Chain(Kind kind, std::vector<ExprPtr> args,
                                std::vector<std::string> operators) {
  if (args.size() == 1) return std::move(args[0]);
  ExprPtr expr = Make(kind, std::move(args));
  expr->operators = std::move(operators);
  return expr;
}

ExprPtr ExpressionParser::Or() {
  std::vector<ExprPtr> args = ExprList(And());
  while (tokens_.SkipName("or")) args.push_back(And());
  return Chain(Kind::kOr, std::move(args));
}

ExprPtr ExpressionParser::And() {
  std::vector<ExprPtr> args = ExprList(Not());
  while (tokens_.SkipName("and")) args.push_back(Not());
  return Chain(Kind::kAnd, std::move(args));
}

ExprPtr ExpressionParser::Not() {
  int count = 0;
  while (tokens_.SkipName("not")) ++count;
  ExprPtr expr = Compare();
  for (; count > 0 && tokens_.ok(); --count) expr = Make(Kind::kNot, ExprList(std::move(expr)));
  return expr;
}

ExprPtr ExpressionParser::Compare() {
  std::vector<ExprPtr> args = ExprList(Sum());
  std::vector<std::string> operators;
  while (true) {
    if (tokens_.IsOneOf({"==", "!=", "<", "<=", ">", ">="})) {
      operators.push_back(tokens_.Take().text);
    } else if (tokens_.SkipName("in")) {
      operators.push_back("in");
    } else if (tokens_.IsName("not") && tokens_.Next().kind == TokenKind::kName &&
               tokens_.Next().text == "in") {
      tokens_.Take();
      tokens_.Take();
      operators.push_back("not in");
    } else {
      break;
    }
    args.push_back(Sum());
  }
  return Chain(Kind::kCompare, std::move(args), std::move(operators));
}

ExprPtr ExpressionParser::Sum() {
  std::vector<ExprPtr> args = ExprList(Concat());
  std::vector<std::string> operators;
  while (tokens_.IsOneOf({"+", "-"})) {
    operators.push_back(tokens_.Take().text);
    args.push_back(Concat());
  }
  return Chain(Kind::kArithmetic, std::move(args), std::move(operators));
}

ExprPtr ExpressionParser::Concat() {
  std::vector<ExprPtr> args = ExprList(Product());
  while (tokens_.SkipOperator("~")) args.push_back(Product());
  return Chain(Kind::kConcat, std::move(args));
}

ExprPtr ExpressionParser::Product() {
  std::vector<ExprPtr> args = ExprList(Unary(true));
  std::vector<std::string> operators;
  while (tokens_.IsOneOf({"*", "/", "//", "%"})) {
    operators.push_back(tokens_.Take().text);
    args.push_back(Unary(true));
  }
  if (tokens_.IsOperator("**")) tokens_.Fail("the operator ** is not supported");
  return Chain(Kind::kArithmetic, std::move(args), std::move(operators));
}

ExprPtr ExpressionParser::Unary(bool with_filters) {
  ExprPtr expr;
  if (tokens_.IsOneOf({"-", "+"})) {
    const Kind kind = tokens_.Take().text == "-" ? Kind::kNegate : Kind::kPlus;
    if (++nesting_ > kMaxNesting) {
      tokens_.Fail(absl::StrCat("an expression nests deeper than ", kMaxNesting));
    }
    expr = Make(kind, ExprList(Unary(false)));
    --nesting_;
  } else {
    expr = Primary();
  }
  expr = Postfix(std::move(expr));
  return with_filters ? Filtered(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::Postfix(ExprPtr expr) {
  while (true) {
    if (tokens_.SkipOperator(".")) {
      if (tokens_.Is(TokenKind::kInteger)) {
        ExprPtr key = Constant(tokens_.Take().integer);
        expr = Make(Kind::kItem, ExprList(std::move(expr), std::move(key)));
      } else {
        expr = Make(Kind::kAttribute, ExprList(std::move(expr)));
        expr->name = tokens_.ExpectName("a name after '.'");
      }
    } else if (tokens_.SkipOperator("[")) {
      expr = Subscript(std::move(expr));
    } else if (tokens_.SkipOperator("(")) {
      expr = Call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::Filtered(ExprPtr expr) {
  while (true) {
    if (tokens_.SkipOperator("|")) {
      expr = Filter(std::move(expr));
    } else if (tokens_.SkipName("is")) {
      expr = IsTest(std::move(expr));
    } else if (tokens_.SkipOperator("(")) {
      expr = Call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::Primary() {
  if (tokens_.Is(TokenKind::kName)) {
    const std::string name = tokens_.Current().text;
    if (name == "true" || name == "True" || name == "false" || name == "False" || name == "none" ||
        name == "None") {
      tokens_.Take();
      if (name == "none" || name == "None") return Constant(Value::None());
      return Constant(name == "true" || name == "True");
    }
    ExprPtr expr = Make(Kind::kName, {});
    expr->name = tokens_.Take().text;
    return expr;
  }
  if (tokens_.SkipOperator("(")) return Parenthesised();
  if (tokens_.SkipOperator("[")) return ListLiteral("]");
  if (tokens_.SkipOperator("{")) return DictLiteral();
  return Literal();
}

ExprPtr ExpressionParser::Literal() {
  if (tokens_.Is(TokenKind::kString)) {
    std::string text;
    while (tokens_.Is(TokenKind::kString)) text += tokens_.Take().text;
    return Constant(std::move(text));
  }
  if (tokens_.Is(TokenKind::kInteger)) return Constant(tokens_.Take().integer);
  if (tokens_.Is(TokenKind::kFloat)) return Constant(tokens_.Take().number);
  tokens_.Unexpected("an expression");
  return Constant({});
}

// A list's items or, after "(a,", a tuple's, which is a list here.
ExprPtr ExpressionParser::ListLiteral(std::string_view end) {
  std::vector<ExprPtr> items;
  while (tokens_.ok() && !tokens_.IsOperator(end)) {
    items.push_back(Conditional());
    if (!tokens_.IsOperator(end)) tokens_.ExpectOperator(",");
  }
  tokens_.ExpectOperator(end);
  return Make(Kind::kList, std::move(items));
}

ExprPtr ExpressionParser::Parenthesised() {
  if (tokens_.SkipOperator(")")) return Make(Kind::kList, {});
  ExprPtr first = Conditional();
  if (!tokens_.SkipOperator(",")) {
    tokens_.ExpectOperator(")");
    return first;
  }
  ExprPtr tuple = ListLiteral(")");
  tuple->args.insert(tuple->args.begin(), std::move(first));
  return Make(Kind::kList, std::move(tuple->args));
}

ExprPtr ExpressionParser::DictLiteral() {
  std::vector<ExprPtr> entries;
  while (tokens_.ok() && !tokens_.IsOperator("}")) {
    entries.push_back(Conditional());
    tokens_.ExpectOperator(":");
    entries.push_back(Conditional());
    if (!tokens_.IsOperator("}")) tokens_.ExpectOperator(",");
  }
  tokens_.ExpectOperator("}");
  return Make(Kind::kDict, std::move(entries));
}

ExprPtr ExpressionParser::Subscript(ExprPtr expr) {
  std::vector<ExprPtr> parts = ExprList(std::move(expr));
  bool slice = false;
  const auto part = [&] {
    const bool given = !tokens_.IsOperator(":") && !tokens_.IsOperator("]");
    parts.push_back(given ? Conditional() : nullptr);
  };
  part();
  while (tokens_.SkipOperator(":")) {
    slice = true;
    part();
  }
  tokens_.ExpectOperator("]");
  if (parts.size() > 4 || (!slice && parts[1] == nullptr)) {
    tokens_.Fail("a subscript is empty or has too many parts");
  }
  if (slice) parts.resize(4);
  return Make(slice ? Kind::kSlice : Kind::kItem, std::move(parts));
}

}  // namespace based::jinja
