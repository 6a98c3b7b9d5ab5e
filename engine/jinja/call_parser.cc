// Calls, filters and tests: what applies something to an expression.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/expression_parser.h"

namespace based::jinja {
namespace {

using Kind = Expr::Kind;
using TokenKind = Token::Kind;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

ExpressionParser::Arguments ExpressionParser::CallArguments() {
  Arguments arguments;
  while (tokens_.ok() && !tokens_.IsOperator(")")) {
    if (tokens_.IsOneOf({"*", "**"})) tokens_.Fail("arguments by * or ** are not supported");
    const bool named = tokens_.Is(TokenKind::kName) &&
                       tokens_.Next().kind == TokenKind::kOperator && tokens_.Next().text == "=";
    if (named) {
      arguments.keywords.push_back(tokens_.Take().text);
      tokens_.Take();
    } else if (!arguments.keywords.empty()) {
      tokens_.Fail("an argument without a name follows one with a name");
    }
    arguments.values.push_back(Conditional());
    if (!tokens_.IsOperator(")")) tokens_.ExpectOperator(",");
  }
  tokens_.ExpectOperator(")");
  return arguments;
}

std::vector<ExprPtr> ExpressionParser::Bind(const Builtin& builtin, std::string_view what,
                                            Arguments arguments) {
  std::vector<ExprPtr> bound(builtin.parameters.size());
  const size_t unnamed = arguments.values.size() - arguments.keywords.size();
  const auto wrong = [&](absl::string_view how) {
    tokens_.Fail(absl::StrCat("the ", View(what), " '", View(builtin.name), "' ", how));
  };
  if (unnamed > bound.size()) wrong("has too many arguments");
  for (size_t i = 0; i < arguments.values.size() && tokens_.ok(); ++i) {
    size_t place = i;
    if (i >= unnamed) {
      const std::string& keyword = arguments.keywords[i - unnamed];
      const auto found = std::find(builtin.parameters.begin(), builtin.parameters.end(), keyword);
      place = static_cast<size_t>(found - builtin.parameters.begin());
      if (place == bound.size() || bound[place] != nullptr) {
        wrong(absl::StrCat("takes no (other) argument '", keyword, "'"));
        break;
      }
    }
    bound[place] = std::move(arguments.values[i]);
  }
  for (size_t i = 0; i < builtin.required && tokens_.ok(); ++i) {
    if (bound[i] == nullptr) wrong(absl::StrCat("needs ", builtin.required, " arguments"));
  }
  return bound;
}

// `callee` and the "(" behind it are read.
ExprPtr ExpressionParser::Call(ExprPtr callee) {
  if (callee->kind == Kind::kName) {
    called_.push_back({callee->name, callee->line});
    Arguments arguments = CallArguments();
    ExprPtr call = Make(Kind::kCall, std::move(arguments.values));
    call->name = callee->name;
    call->keywords = std::move(arguments.keywords);
    return call;
  }
  if (callee->kind != Kind::kAttribute) {
    tokens_.Fail("a call of what is no name and no method is not supported");
    return callee;
  }
  const Builtin* method = FindMethod(callee->name);
  if (method == nullptr) {
    tokens_.Fail(absl::StrCat("the method '", callee->name, "' is not supported"));
    return callee;
  }
  std::vector<ExprPtr> args = Bind(*method, "method", CallArguments());
  args.insert(args.begin(), std::move(callee->args[0]));
  ExprPtr call = Make(Kind::kMethod, std::move(args));
  call->builtin = method;
  return call;
}

ExprPtr ExpressionParser::Filter(ExprPtr expr) {
  const std::string name = tokens_.ExpectName("a filter's name");
  const Builtin* filter = FindFilter(name);
  if (filter == nullptr) {
    tokens_.Fail(absl::StrCat("the filter '", name, "' is not supported"));
    return expr;
  }
  Arguments arguments;
  if (tokens_.SkipOperator("(")) arguments = CallArguments();
  std::vector<ExprPtr> args = Bind(*filter, "filter", std::move(arguments));
  args.insert(args.begin(), std::move(expr));
  ExprPtr filtered = Make(Kind::kFilter, std::move(args));
  filtered->builtin = filter;
  return filtered;
}

ExprPtr ExpressionParser::IsTest(ExprPtr expr) {
  const bool negated = tokens_.SkipName("not");
  const std::string name = tokens_.ExpectName("a test's name");
  const Test* test = FindTest(name);
  if (test == nullptr) {
    tokens_.Fail(absl::StrCat("the test '", name, "' is not supported"));
    return expr;
  }
  ExprPtr argument;
  if (tokens_.SkipOperator("(")) {
    Arguments arguments = CallArguments();
    if (arguments.values.size() > 1 || !arguments.keywords.empty()) {
      tokens_.Fail(absl::StrCat("the test '", name, "' has too many arguments"));
    } else if (!arguments.values.empty()) {
      argument = std::move(arguments.values[0]);
    }
  } else if (!tokens_.IsName("else") && !tokens_.IsName("or") && !tokens_.IsName("and") &&
             (tokens_.Is(TokenKind::kName) || tokens_.Is(TokenKind::kString) ||
              tokens_.Is(TokenKind::kInteger) || tokens_.Is(TokenKind::kFloat) ||
              tokens_.IsOneOf({"[", "{"}))) {
    if (tokens_.IsName("is")) tokens_.Fail("a test follows a test");
    argument = Postfix(Primary());
  }
  if (test->takes_argument != (argument != nullptr)) {
    tokens_.Fail(absl::StrCat("the test '", name, "' takes ", test->takes_argument ? "one" : "no",
                              " argument"));
  }
  ExprPtr result = Make(Kind::kTest, ExprList(std::move(expr), std::move(argument)));
  result->test = test;
  return negated ? Make(Kind::kNot, ExprList(std::move(result))) : std::move(result);
}

}  // namespace based::jinja
