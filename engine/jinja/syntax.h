// A template as a tree, as the parser makes it and the interpreter walks it.
#ifndef BASED_ENGINE_JINJA_SYNTAX_H_
#define BASED_ENGINE_JINJA_SYNTAX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/jinja/builtins.h"
#include "engine/jinja/value.h"

namespace based::jinja {

// Most levels of nesting, of expressions as of blocks.
inline constexpr int kMaxNesting = 100;

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum class Kind : uint8_t {
    kConstant,     // constant
    kName,         // name
    kList,         // args
    kDict,         // args: key, value, key, value, ...
    kAttribute,    // args[0].name
    kItem,         // args[0][args[1]]
    kSlice,        // args[0][args[1]:args[2]:args[3]], null where left out
    kCall,         // name(args), the last of them named `keywords`
    kMethod,       // args[0].method(the other args), null where left out
    kFilter,       // args[0] | filter(the other args), null where left out
    kTest,         // args[0] is test(args[1]), args[1] null where left out
    kNot,          // not args[0]
    kNegate,       // - args[0]
    kPlus,         // + args[0]
    kAnd,          // args[0] and args[1] and ...
    kOr,           // args[0] or args[1] or ...
    kCompare,      // args[0] operators[0] args[1] operators[1] args[2] ...
    kArithmetic,   // (args[0] operators[0] args[1]) operators[1] args[2] ...
    kConcat,       // args[0] ~ args[1] ~ ...
    kConditional,  // args[0] if args[1] else args[2], null where left out
  };

  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;
  std::string name{};
  Value constant{};
  std::vector<ExprPtr> args{};
  std::vector<std::string> keywords{};
  std::vector<std::string> operators{};
  const Builtin* builtin = nullptr;  // of a filter or a method
  const Test* test = nullptr;
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind : uint8_t {
    kText,   // text
    kPrint,  // {{ exprs[0] }}
    kIf,     // exprs[i] decides on blocks[i]; one block more: else
    kFor,    // names in exprs[0], of those for which exprs[1] holds, if not null; blocks[1]: else
    kSet,    // names[0] or names[0].text = exprs[0]
    kSetBlock,  // the same with what blocks[0] renders to
    kMacro,     // names[0](names[1], ...), whose defaults are exprs, null where there is none
    kScope,     // blocks[0], whose variables end with it
    kBreak,
    kContinue,
  };

  Kind kind = Kind::kText;
  int line = 0;
  std::string text{};
  std::vector<std::string> names{};
  std::vector<ExprPtr> exprs{};
  std::vector<Block> blocks{};
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_SYNTAX_H_
