#include "engine/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/strings.h"
#include "engine/jinja/text.h"

namespace based::jinja {
namespace {

using Kind = Value::Kind;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

Value Mismatch(Run& run, std::string_view op, const Value& left, const Value& right) {
  for (const Value* side : {&left, &right}) {
    if (side->undefined()) return run.Fail(side->reason());
  }
  return run.Fail(absl::StrCat("'", View(op), "' of ", left.type_name(), " and ", right.type_name(),
                               " is not possible"));
}

Value FloorDivide(Run& run, std::string_view op, int64_t left, int64_t right) {
  if (right == 0) return run.Fail("division by zero");
  if (right == -1) {  // where the machine's own division may overflow
    if (op == "%") return int64_t{0};
    if (left == std::numeric_limits<int64_t>::min()) return run.Fail("a number is too large");
    return -left;
  }
  int64_t quotient = left / right;
  int64_t rest = left % right;
  if (rest != 0 && (rest < 0) != (right < 0)) {
    --quotient;
    rest += right;
  }
  return op == "%" ? rest : quotient;
}

Value Integers(Run& run, std::string_view op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(left, right, &result);
  if (op == "-") overflow = __builtin_sub_overflow(left, right, &result);
  if (op == "*") overflow = __builtin_mul_overflow(left, right, &result);
  if (op == "//" || op == "%") return FloorDivide(run, op, left, right);
  if (op == "/") {
    if (right == 0) return run.Fail("division by zero");
    return static_cast<double>(left) / static_cast<double>(right);
  }
  return overflow ? run.Fail("a number is too large") : Value(result);
}

Value Floats(Run& run, std::string_view op, double left, double right) {
  if (op == "+") return left + right;
  if (op == "-") return left - right;
  if (op == "*") return left * right;
  if (right == 0) return run.Fail("division by zero");
  if (op == "/") return left / right;
  // As CPython does it, down to the sign of zero.
  double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest == 0) {
    rest = std::copysign(0.0, right);
  } else if ((rest < 0) != (right < 0)) {
    rest += right;
    quotient -= 1;
  }
  if (op == "%") return rest;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Value Repeat(Run& run, const Value& sequence, int64_t times) {
  const size_t count = times < 0 ? 0 : static_cast<size_t>(times);
  const size_t size = sequence.is_string() ? sequence.string().size() : sequence.items().size();
  if (size == 0 || count == 0) {
    return sequence.is_string() ? Value("") : Value::OfList({});
  }
  const size_t cost = sequence.is_string() ? size : size * kStepCost;
  if (count > static_cast<size_t>(kMaxCost) || !run.Spend(cost * count)) {
    return run.Fail("a repetition is too long");
  }
  std::string text;
  Items items;
  for (size_t i = 0; i < count; ++i) {
    if (sequence.is_string()) {
      text += sequence.string();
    } else {
      items.insert(items.end(), sequence.items().begin(), sequence.items().end());
    }
  }
  return sequence.is_string() ? Value(std::move(text)) : Value::OfList(std::move(items));
}

Value Joined(Run& run, const Value& left, const Value& right) {
  Items items;
  if (!run.Spend((left.items().size() + right.items().size()) * kStepCost)) return {};
  items = left.items();
  items.insert(items.end(), right.items().begin(), right.items().end());
  return Value::OfList(std::move(items));
}

bool EqualEntries(Run& run, const Entries& left, const Entries& right) {
  if (left.size() != right.size()) return false;
  for (const auto& [key, value] : left) {
    if (!run.Spend(right.size())) return false;
    const Value* other = FindEntry(right, key);
    if (other == nullptr || !Equal(run, value, *other)) return false;
  }
  return true;
}

bool Contains(Run& run, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!item.is_string()) {
        Mismatch(run, "in", item, container);
        return false;
      }
      return SpendSearch(run, container.string(), item.string()) &&
             container.string().find(item.string()) != std::string::npos;
    case Kind::kList:
      for (const Value& one : container.items()) {
        if (!run.Step()) return false;
        if (Equal(run, one, item)) return true;
      }
      return false;
    case Kind::kDict:
      return item.is_string() && run.Spend(container.entries().size()) &&
             FindEntry(container.entries(), item.string()) != nullptr;
    default:
      Mismatch(run, "in", item, container);
      return false;
  }
}

}  // namespace

std::string ToText(Run& run, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.boolean() ? "True" : "False";
    case Kind::kInteger:
      return absl::StrCat(value.integer());
    case Kind::kFloat:
      return FloatText(value.number());
    case Kind::kString:
      run.Spend(value.string().size());
      return run.ok() ? value.string() : "";
    default:
      run.Fail(absl::StrCat("a ", value.type_name(), " as text is not supported; use tojson"));
      return "";
  }
}

Value Arithmetic(Run& run, std::string_view op, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return Integers(run, op, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return Floats(run, op, left.number(), right.number());
  }
  if (op == "+" && left.is_string() && right.is_string()) {
    if (!run.Spend(left.string().size() + right.string().size())) return {};
    return left.string() + right.string();
  }
  if (op == "+" && left.is_list() && right.is_list()) return Joined(run, left, right);
  if (op == "*" && right.is_integral() && (left.is_string() || left.is_list())) {
    return Repeat(run, left, right.integer());
  }
  if (op == "*" && left.is_integral() && (right.is_string() || right.is_list())) {
    return Repeat(run, right, left.integer());
  }
  return Mismatch(run, op, left, right);
}

Value Negate(Run& run, const Value& value) {
  if (value.undefined()) return run.Fail(value.reason());
  if (value.kind() == Kind::kFloat) return -value.number();
  if (value.is_integral()) return Integers(run, "-", 0, value.integer());
  return run.Fail(absl::StrCat("'-' of ", value.type_name(), " is not possible"));
}

bool Equal(Run& run, const Value& left, const Value& right) {
  if (!run.ok()) return false;
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.integer() == right.integer();
    return left.number() == right.number();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return left.string().size() == right.string().size() && run.Spend(left.string().size()) &&
             left.string() == right.string();
    case Kind::kList:
      if (left.items().size() != right.items().size()) return false;
      for (size_t i = 0; i < left.items().size(); ++i) {
        if (!run.Step() || !Equal(run, left.items()[i], right.items()[i])) return false;
      }
      return true;
    case Kind::kDict:
      return EqualEntries(run, left.entries(), right.entries());
    default:
      run.Fail(absl::StrCat("'==' of ", left.type_name(), " is not supported"));
      return false;
  }
}

bool Compare(Run& run, std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return Equal(run, left, right);
  if (op == "!=") return !Equal(run, left, right);
  if (op == "in") return Contains(run, right, left);
  if (op == "not in") return !Contains(run, right, left);
  std::partial_ordering order = std::partial_ordering::unordered;
  if (left.is_integral() && right.is_integral()) {
    order = left.integer() <=> right.integer();
  } else if (left.is_number() && right.is_number()) {
    order = left.number() <=> right.number();
  } else if (left.is_string() && right.is_string()) {
    // The order of UTF-8's bytes is that of its characters.
    if (!run.Spend(std::min(left.string().size(), right.string().size()))) return false;
    order = left.string().compare(right.string()) <=> 0;
  } else {
    Mismatch(run, op, left, right);
    return false;
  }
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

}  // namespace based::jinja
