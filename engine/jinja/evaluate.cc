// Expressions.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/interpreter.h"
#include "engine/jinja/operators.h"

namespace based::jinja {

Value Interpreter::Evaluate(const Expr& expr) {
  if (!run_.Step()) return {};
  if (++recursion_ > kMaxRecursion) {
    return run_.Fail(absl::StrCat("recurses deeper than ", kMaxRecursion));
  }
  Value value = EvaluateInner(expr);
  --recursion_;
  return run_.ok() ? std::move(value) : Value();
}

Value Interpreter::EvaluateInner(const Expr& expr) {
  using Kind = Expr::Kind;
  const auto arg = [&](size_t i) { return Evaluate(*expr.args[i]); };
  switch (expr.kind) {
    case Kind::kConstant:
      return expr.constant;
    case Kind::kName:
      return Lookup(expr.name);
    case Kind::kList:
      return List(expr);
    case Kind::kDict:
      return Dict(expr);
    case Kind::kAttribute:
      return Attribute(run_, arg(0), expr.name);
    case Kind::kItem: {
      const Value value = arg(0);
      return Item(run_, value, arg(1));
    }
    case Kind::kSlice:
      return SliceOf(expr);
    case Kind::kCall:
      return Call(expr);
    case Kind::kMethod:
    case Kind::kFilter:
      return Applied(expr);
    case Kind::kTest:
      return Tested(expr);
    case Kind::kNot:
      return !arg(0).Truth();
    case Kind::kNegate:
      return Negate(run_, arg(0));
    case Kind::kPlus:
      return Arithmetic(run_, "+", int64_t{0}, arg(0));
    case Kind::kAnd:
      return FirstThatIs(false, expr);
    case Kind::kOr:
      return FirstThatIs(true, expr);
    case Kind::kCompare:
      return Comparison(expr);
    case Kind::kArithmetic:
      return ArithmeticChain(expr);
    case Kind::kConcat:
      return Concatenation(expr);
    case Kind::kConditional:
      if (arg(1).Truth()) return arg(0);
      return expr.args[2] != nullptr ? arg(2) : Value::Undefined("a condition without else fails");
  }
  return {};
}

Value Interpreter::List(const Expr& expr) {
  Items items;
  for (const ExprPtr& item : expr.args) items.push_back(run_.Contained(Evaluate(*item)));
  return Value::OfList(std::move(items));
}

Value Interpreter::Dict(const Expr& expr) {
  Entries entries;
  for (size_t i = 0; i < expr.args.size(); i += 2) {
    const Value key = Evaluate(*expr.args[i]);
    if (!key.is_string()) return run_.Fail("a dict's key is no string, which is not supported");
    if (!run_.Spend(entries.size())) return {};
    SetEntry(entries, key.string(), run_.Contained(Evaluate(*expr.args[i + 1])));
  }
  return Value::OfDict(std::move(entries));
}

Value Interpreter::SliceOf(const Expr& expr) {
  const Value value = Evaluate(*expr.args[0]);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (expr.args[i + 1] != nullptr) bounds[i] = Evaluate(*expr.args[i + 1]);
  }
  return Slice(run_, value, bounds);
}

Value Interpreter::Comparison(const Expr& expr) {
  Value left = Evaluate(*expr.args[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = Evaluate(*expr.args[i + 1]);
    if (!run_.ok() || !Compare(run_, expr.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::FirstThatIs(bool truth, const Expr& expr) {
  for (size_t i = 0; i + 1 < expr.args.size(); ++i) {
    Value value = Evaluate(*expr.args[i]);
    if (!run_.ok() || value.Truth() == truth) return value;
  }
  return Evaluate(*expr.args.back());
}

Value Interpreter::ArithmeticChain(const Expr& expr) {
  Value left = Evaluate(*expr.args[0]);
  for (size_t i = 0; i < expr.operators.size() && run_.ok(); ++i) {
    left = Arithmetic(run_, expr.operators[i], left, Evaluate(*expr.args[i + 1]));
  }
  return left;
}

Value Interpreter::Concatenation(const Expr& expr) {
  std::string text;
  for (const ExprPtr& part : expr.args) text += ToText(run_, Evaluate(*part));
  return text;
}

Value Interpreter::Applied(const Expr& expr) {
  const Value subject = Evaluate(*expr.args[0]);
  Items args;
  for (size_t i = 1; i < expr.args.size(); ++i) {
    args.push_back(expr.args[i] != nullptr ? Evaluate(*expr.args[i]) : Value());
  }
  if (!run_.ok()) return {};
  if (expr.kind == Expr::Kind::kMethod && !HasMethod(subject, expr.builtin->name)) {
    if (subject.undefined()) return run_.Fail(subject.reason());
    const absl::string_view name(expr.builtin->name.data(), expr.builtin->name.size());
    return run_.Fail(
        absl::StrCat("the method '", name, "' of a ", subject.type_name(), " is not supported"));
  }
  return expr.builtin->apply(run_, subject, args);
}

Value Interpreter::Tested(const Expr& expr) {
  const Value subject = Evaluate(*expr.args[0]);
  const Value argument = expr.args[1] != nullptr ? Evaluate(*expr.args[1]) : Value();
  return run_.ok() && expr.test->holds(run_, subject, argument);
}

}  // namespace based::jinja
