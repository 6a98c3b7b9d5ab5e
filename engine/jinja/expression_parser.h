// Reads expressions, by Jinja's own precedence.
#ifndef BASED_ENGINE_JINJA_EXPRESSION_PARSER_H_
#define BASED_ENGINE_JINJA_EXPRESSION_PARSER_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/jinja/syntax.h"
#include "engine/jinja/token_stream.h"

namespace based::jinja {

template <typename... Exprs>
std::vector<ExprPtr> ExprList(Exprs... exprs) {
  std::vector<ExprPtr> list;
  (list.push_back(std::move(exprs)), ...);
  return list;
}

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // Never null; something or other once the tokens have failed.
  ExprPtr Conditional();
  // The same without "a if b else c" at its outside.
  ExprPtr Or();
  ExprPtr Primary();

  // The functions that were called by name, and where.
  struct Called {
    std::string name;
    int line;
  };
  const std::vector<Called>& called() const { return called_; }

 private:
  ExprPtr Make(Expr::Kind kind, std::vector<ExprPtr> args);
  ExprPtr Constant(Value value);
  // One node of all operands, so that long chains are not deep; of one, itself.
  ExprPtr Chain(Expr::Kind kind, std::vector<ExprPtr> args,
                std::vector<std::string> operators = {});
  ExprPtr And();
  ExprPtr Not();
  ExprPtr Compare();
  ExprPtr Sum();
  ExprPtr Concat();
  ExprPtr Product();
  ExprPtr Unary(bool with_filters);
  ExprPtr Postfix(ExprPtr expr);
  ExprPtr Filtered(ExprPtr expr);
  ExprPtr Literal();
  ExprPtr ListLiteral(std::string_view end);
  ExprPtr DictLiteral();
  ExprPtr Parenthesised();
  ExprPtr Subscript(ExprPtr expr);
  ExprPtr Call(ExprPtr callee);
  ExprPtr Filter(ExprPtr expr);
  ExprPtr IsTest(ExprPtr expr);

  struct Arguments {
    std::vector<ExprPtr> values;
    std::vector<std::string> keywords;  // of the last values
  };
  Arguments CallArguments();
  // Brings `arguments` into the order of the builtin's parameters.
  std::vector<ExprPtr> Bind(const Builtin& builtin, std::string_view what, Arguments arguments);

  TokenStream& tokens_;
  std::vector<Called> called_;
  int nesting_ = 0;
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_EXPRESSION_PARSER_H_
