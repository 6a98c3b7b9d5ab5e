// Runs a template's tree.
#ifndef BASED_ENGINE_JINJA_INTERPRETER_H_
#define BASED_ENGINE_JINJA_INTERPRETER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/jinja/functions.h"
#include "engine/jinja/run.h"
#include "engine/jinja/syntax.h"

namespace based::jinja {

// One rendering. Not thread-safe; the tree, which must outlive it, may be shared.
class Interpreter {
 public:
  Interpreter(Run& run, Entries globals);

  // What `block` renders to; nothing of worth once the run has failed.
  std::string Render(const Block& block);

 private:
  using Scope = std::vector<std::pair<std::string_view, Value>>;
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  Flow Execute(const Block& block);
  Flow ExecuteOne(const Statement& statement);
  Flow If(const Statement& statement);
  Flow For(const Statement& statement);
  Flow Pass(const Statement& statement, const std::shared_ptr<const Items>& items, size_t index);
  void BindTargets(const Statement& statement, const Value& item);
  void Print(std::string_view text);
  void Assign(const Statement& statement, Value value);
  // What `block` prints, in a scope of its own.
  std::string Captured(const Block& block);

  Value Evaluate(const Expr& expr);
  Value EvaluateInner(const Expr& expr);
  Value List(const Expr& expr);
  Value Dict(const Expr& expr);
  Value SliceOf(const Expr& expr);
  Value Comparison(const Expr& expr);
  // The first operand of which it holds, or the last.
  Value FirstThatIs(bool truth, const Expr& expr);
  Value ArithmeticChain(const Expr& expr);
  Value Concatenation(const Expr& expr);
  Value Applied(const Expr& expr);
  Value Tested(const Expr& expr);
  Value Call(const Expr& expr);
  Value CallMacro(const Statement& macro, CallValues values);

  Value Lookup(const std::string& name);
  void Set(std::string_view name, Value value);

  Run& run_;
  const Entries globals_;
  // Functions and globals, the template's own variables, then those of the blocks that are open.
  std::vector<Scope> scopes_;
  size_t visible_from_ = 0;  // scopes below are hidden, but for the two outermost
  std::string out_;
  int recursion_ = 0;
  int64_t loops_ = 0;
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_INTERPRETER_H_
