#include "engine/jinja/interpreter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/operators.h"

namespace based::jinja {
namespace {

constexpr size_t kGlobalScopes = 2;

}  // namespace

Interpreter::Interpreter(Run& run, Entries globals) : run_(run), globals_(std::move(globals)) {
  scopes_.emplace_back();
  for (const std::string_view name : FunctionNames()) Set(name, Function{.name = name});
  for (const auto& [name, value] : globals_) Set(name, value);
  scopes_.emplace_back();
}

std::string Interpreter::Render(const Block& block) {
  Execute(block);
  return std::move(out_);
}

Interpreter::Flow Interpreter::Execute(const Block& block) {
  for (const Statement& statement : block) {
    run_.At(statement.line);
    if (!run_.Step()) return Flow::kBreak;
    if (++recursion_ > kMaxRecursion) {
      run_.Fail(absl::StrCat("recurses deeper than ", kMaxRecursion));
    }
    const Flow flow = ExecuteOne(statement);
    --recursion_;
    if (flow != Flow::kNext) return flow;
  }
  return run_.ok() ? Flow::kNext : Flow::kBreak;
}

Interpreter::Flow Interpreter::ExecuteOne(const Statement& statement) {
  using Kind = Statement::Kind;
  switch (statement.kind) {
    case Kind::kText:
      Print(statement.text);
      return Flow::kNext;
    case Kind::kPrint:
      Print(ToText(run_, Evaluate(*statement.exprs[0])));
      return Flow::kNext;
    case Kind::kIf:
      return If(statement);
    case Kind::kFor:
      return For(statement);
    case Kind::kSet:
      Assign(statement, Evaluate(*statement.exprs[0]));
      return Flow::kNext;
    case Kind::kSetBlock:
      Assign(statement, Captured(statement.blocks[0]));
      return Flow::kNext;
    case Kind::kMacro:
      Set(statement.names[0], Function{.name = statement.names[0], .macro = &statement});
      return Flow::kNext;
    case Kind::kScope: {
      scopes_.emplace_back();
      const Flow flow = Execute(statement.blocks[0]);
      scopes_.pop_back();
      return flow;
    }
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::If(const Statement& statement) {
  for (size_t i = 0; i < statement.blocks.size(); ++i) {
    const bool holds = i >= statement.exprs.size() || Evaluate(*statement.exprs[i]).Truth();
    if (!run_.ok()) return Flow::kBreak;
    if (holds) return Execute(statement.blocks[i]);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::For(const Statement& statement) {
  Items items = Iterate(run_, Evaluate(*statement.exprs[0]));
  if (const ExprPtr& filter = statement.exprs[1]; filter != nullptr) {
    Items chosen;
    for (Value& item : items) {
      if (!run_.Step()) break;
      scopes_.emplace_back();
      BindTargets(statement, item);
      if (Evaluate(*filter).Truth()) chosen.push_back(std::move(item));
      scopes_.pop_back();
    }
    items = std::move(chosen);
  }
  if (!run_.ok()) return Flow::kBreak;
  const auto shared = std::make_shared<const Items>(std::move(items));
  ++loops_;
  // As Jinja has it, a pass that break or continue ends early does not count against "else".
  bool completed = false;
  for (size_t i = 0; i < shared->size(); ++i) {
    const Flow flow = Pass(statement, shared, i);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNext;
  }
  --loops_;
  if (!run_.ok()) return Flow::kBreak;
  if (completed || statement.blocks[1].empty()) return Flow::kNext;
  scopes_.emplace_back();
  const Flow flow = Execute(statement.blocks[1]);
  scopes_.pop_back();
  return flow;
}

Interpreter::Flow Interpreter::Pass(const Statement& statement,
                                    const std::shared_ptr<const Items>& items, size_t index) {
  scopes_.emplace_back();
  BindTargets(statement, (*items)[index]);
  Set("loop",
      std::make_shared<const Loop>(Loop{.items = items, .index0 = index, .depth0 = loops_ - 1}));
  const Flow flow = Execute(statement.blocks[0]);
  scopes_.pop_back();
  return flow;
}

void Interpreter::BindTargets(const Statement& statement, const Value& item) {
  if (statement.names.size() == 1) return Set(statement.names[0], item);
  const Items parts = Iterate(run_, item);
  if (parts.size() != statement.names.size()) {
    run_.Fail(absl::StrCat("a loop has ", statement.names.size(), " variables for ", parts.size(),
                           " values"));
    return;
  }
  for (size_t i = 0; i < parts.size(); ++i) Set(statement.names[i], parts[i]);
}

void Interpreter::Print(std::string_view text) {
  if (!run_.Spend(text.size())) return;
  if (out_.size() + text.size() > kMaxOutputBytes) {
    run_.Fail(absl::StrCat("the text becomes longer than ", kMaxOutputBytes, " bytes"));
    return;
  }
  out_ += text;
}

void Interpreter::Assign(const Statement& statement, Value value) {
  const std::string& name = statement.names[0];
  if (statement.text.empty()) return Set(name, std::move(value));
  const Value target = Lookup(name);
  if (target.kind() != Value::Kind::kNamespace) {
    run_.Fail(absl::StrCat("'", name, "' is no namespace, so that '", statement.text,
                           "' of it cannot be set"));
    return;
  }
  Entries& entries = target.names().entries;
  if (run_.Spend(entries.size())) {
    SetEntry(entries, statement.text, run_.Contained(std::move(value)));
  }
}

std::string Interpreter::Captured(const Block& block) {
  std::string outer;
  std::swap(outer, out_);
  scopes_.emplace_back();
  Execute(block);
  scopes_.pop_back();
  std::swap(outer, out_);
  return outer;
}

Value Interpreter::Call(const Expr& expr) {
  const Value callee = Lookup(expr.name);
  if (callee.kind() != Value::Kind::kFunction) {
    return run_.Fail(absl::StrCat("'", expr.name, "' is no function"));
  }
  CallValues values;
  const size_t unnamed = expr.args.size() - expr.keywords.size();
  for (size_t i = 0; i < expr.args.size(); ++i) {
    Value value = Evaluate(*expr.args[i]);
    if (i < unnamed) {
      values.unnamed.push_back(std::move(value));
    } else {
      if (!run_.Spend(values.named.size())) return {};
      SetEntry(values.named, expr.keywords[i - unnamed], std::move(value));
    }
  }
  if (!run_.ok()) return {};
  const Function& function = callee.function();
  if (function.macro != nullptr) return CallMacro(*function.macro, std::move(values));
  return FindFunction(function.name)(run_, values);
}

Value Interpreter::CallMacro(const Statement& macro, CallValues values) {
  const size_t parameters = macro.names.size() - 1;
  if (values.unnamed.size() > parameters) {
    return run_.Fail(
        absl::StrCat("the macro '", macro.names[0], "' takes ", parameters, " arguments"));
  }
  if (!run_.Spend((parameters + 1) * (values.named.size() + 1) * 2)) return {};
  for (const auto& [name, value] : values.named) {
    if (std::find(macro.names.begin() + 1, macro.names.end(), name) == macro.names.end()) {
      return run_.Fail(absl::StrCat("the macro '", macro.names[0], "' has no '", name, "'"));
    }
  }
  const int line = run_.line();
  const size_t visible_from = std::exchange(visible_from_, scopes_.size());
  scopes_.emplace_back();
  for (size_t i = 0; i < parameters; ++i) {
    const std::string& name = macro.names[i + 1];
    const Value* named = FindEntry(values.named, name);
    if (i < values.unnamed.size()) {
      Set(name, std::move(values.unnamed[i]));
    } else if (named != nullptr) {
      Set(name, *named);
    } else if (macro.exprs[i] != nullptr) {
      Set(name, Evaluate(*macro.exprs[i]));
    } else {
      Set(name, Value::Undefined(absl::StrCat("'", name, "' is not given")));
    }
  }
  std::string text = Captured(macro.blocks[0]);
  scopes_.pop_back();
  visible_from_ = visible_from;
  run_.At(line);
  return text;
}

Value Interpreter::Lookup(const std::string& name) {
  const auto in = [this, &name](const Scope& scope) -> const Value* {
    if (!run_.Spend(scope.size())) return nullptr;
    for (const auto& [known, value] : scope) {
      if (known == name) return &value;
    }
    return nullptr;
  };
  for (size_t i = scopes_.size(); i > std::max(visible_from_, kGlobalScopes); --i) {
    if (const Value* found = in(scopes_[i - 1])) return *found;
  }
  for (size_t i = kGlobalScopes; i > 0; --i) {
    if (const Value* found = in(scopes_[i - 1])) return *found;
  }
  return Value::Undefined(absl::StrCat("'", name, "' is undefined"));
}

void Interpreter::Set(std::string_view name, Value value) {
  if (!run_.Spend(scopes_.back().size())) return;
  for (auto& [known, old] : scopes_.back()) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  scopes_.back().emplace_back(name, std::move(value));
}

}  // namespace based::jinja
