// The template language, construct by construct. That the whole agrees with Jinja itself is tested
// end to end, in tests/e2e/test_chat_template_oracle.py.
#include "engine/jinja/template.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based::jinja {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

absl::StatusOr<std::string> TryRender(std::string_view source, const json& globals = {}) {
  const absl::StatusOr<Template> compiled = Template::Compile(source);
  if (!compiled.ok()) return compiled.status();
  Entries entries;
  for (const auto& [name, value] : globals.items())
    entries.emplace_back(name, Value::OfJson(value));
  return compiled->Render(std::move(entries), std::chrono::system_clock::from_time_t(0));
}

std::string Render(std::string_view source, const json& globals = {}) {
  const absl::StatusOr<std::string> text = TryRender(source, globals);
  return text.ok() ? *text : "ERROR " + text.status().ToString();
}

std::string Error(std::string_view source, const json& globals = {}) {
  return std::string(TryRender(source, globals).status().message());
}

struct Case {
  const char* source;
  const char* text;
};

void ExpectAll(std::initializer_list<Case> cases, const json& globals = {}) {
  for (const auto& [source, text] : cases) EXPECT_EQ(Render(source, globals), text) << source;
}

TEST(Template, WhitespaceIsStrippedAsTransformersAsksFor) {
  ExpectAll({
      {"a\n", "a"},
      {"a\n\n", "a\n"},
      {"a\r\nb\rc", "a\nb\nc"},
      {"{% if true %}\nx\n{% endif %}\ny", "x\ny"},
      {"  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"},
      {"z {% if true %}\nx{% endif %}", "z x"},
      {"  {{ 'a' }}\nb", "  a\nb"},
      {"a \n {{- 'b' -}} \n c", "abc"},
      {"a \n {%- if true -%} \n b \n {%- endif -%} \n c", "abc"},
      {"a\n  {%+ if true %}b{% endif +%}\nc", "a\n  b\nc"},
      {"a\n  {# note #}\nb{#- note -#} c", "a\nbc"},
      {"{{ 1 }}\n{{ 2 }}", "1\n2"},
      {"{ a } {a", "{ a } {a"},
      {"a {", "a {"},
  });
}

TEST(Template, Literals) {
  ExpectAll({
      {"{{ 'a\\n\\t\\'\\\\\\x41\\u00e9\\d' }}", "a\n\t'\\A\u00e9\\d"},
      {"{{ \"a\" 'b' }}", "ab"},
      {"{{ 12 }} {{ -3 }} {{ 1.5 }} {{ 2e3 }} {{ 1e16 }}", "12 -3 1.5 2000.0 1e+16"},
      {"{{ true }} {{ False }} {{ none }}", "True False None"},
      {"{{ [1, 'a'][1] }}{{ {'k': 'v'}.k }}{{ {'k': {'l': 'w'}}['k']['l'] }}", "avw"},
      {"{{ ('a', 'b')[0] }}{{ ('c') }}", "ac"},
  });
}

TEST(Template, Operators) {
  ExpectAll({
      {"{{ 1 + 2 * 3 - 4 }}", "3"},
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }}", "3 -4 2 3.5 3.0"},
      {"{{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ 0 // -2.0 }} {{ 0 % -2.0 }}", "-4.0 0.5 -0.0 -0.0"},
      {"{{ 'a' + 'b' ~ 1 ~ none }}", "ab1None"},
      {"{{ 'ab' * 2 }}{{ ([1] + [2]) | length }}", "abab2"},
      {"{{ 1 < 2 < 3 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ '1' == 1 }}", "True True True False"},
      {"{{ 'a' in 'cat' }} {{ 1 not in [2] }} {{ 'k' in {'k': 0} }}", "True True True"},
      {"{{ not 1 == 2 }} {{ 0 or 'x' }} {{ 'y' and '' }}!", "True x !"},
      {"{{ 'a' if 0 else 'b' if 0 else 'c' }}{{ 'd' if 0 }}", "c"},
      {"{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'h\u00e9llo'[1:3] }}{{ 'abc'[::-1] }}", "bc\u00e9lcba"},
      {"{{ [1, 2, 3, 4][1:-1] | join(',') }} {{ [1, 2][5:] | length }}", "2,3 0"},
      {"{{ 7 - 2 - 1 + 3 }} {{ 24 // 5 * 2 % 3 }} {{ 8 / 2 / 2 }}", "7 2 2.0"},
      {"{{ 0 or '' or 'x' or y.z }} {{ 1 and 'a' and 0 and y.z }} {{ 1 and 2 or 3 }}", "x 0 2"},
      {"{{ 0 and 1 or '' or 0 }} {{ 1 and 2 and 3 }}", "0 3"},
  });
}

TEST(Template, Statements) {
  ExpectAll({
      {"{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.first }}{{ loop.last }} {% endfor %}",
       "1TrueFalse 2FalseFalse 3FalseTrue "},
      {"{% for x in [1, 2, 3] if x != 2 %}{{ x }}/{{ loop.length }} {% endfor %}", "1/2 3/2 "},
      {"{% for x in [] %}a{% else %}none{% endfor %}", "none"},
      {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"},
      {"{% for x in 'ab' %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }} {% endfor %}", "ab ab "},
      {"{% for x in range(5) %}{% if x == 1 %}{% continue %}{% elif x == 3 %}{% break %}"
       "{% endif %}{{ x }}{% endfor %}",
       "02"},
      {"{% for x in [1] %}{% break %}{% else %}none{% endfor %}", "none"},
      {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "21"},
      {"{% if true %}{% set x = 3 %}{% endif %}{{ x }}", "3"},
      {"{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}"
       "{{ ns.n }}",
       "3"},
      {"{% set x %}a{{ 1 }}{% endset %}{{ x | length }}", "2"},
      {"{% macro m(a, b='c') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}",
       "<1c><32>"},
      {"{% generation %}{% set y = 1 %}g{{ y }}{% endgeneration %}{{ y }}", "g1"},
  });
}

TEST(Template, FiltersTestsAndMethods) {
  ExpectAll({
      {"{{ ' a ' | trim }}|{{ 'aB' | upper }}|{{ 'aB' | lower }}|{{ 'aB c' | title }}",
       "a|AB|ab|Ab C"},
      {"{{ x | default('d') }}{{ '' | default('e', true) }}{{ 'h\u00e9' | length }}", "de2"},
      {"{{ [1, 2] | first }}{{ [1, 2] | last }}{{ [1, 2] | join('-') }}", "121-2"},
      {"{{ 'a-b' | replace('-', '+') }}{{ '7' | int + 1 }}{{ 5 | string + 'x' }}", "a+b85x"},
      {"{{ {'b': [1, none, true], 'a': '<\u00e9\"'} | tojson }}",
       "{\"b\": [1, null, true], \"a\": \"<\u00e9\\\"\"}"},
      {"{{ {'a': [1]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"},
      {"{{ [{'r': 'u'}, {'r': 's'}] | selectattr('r', 'equalto', 's') | list | length }}", "1"},
      {"{{ [{'r': 'u'}, {'r': 's'}] | map(attribute='r') | join(',') }}", "u,s"},
      {"{{ x is defined }} {{ none is none }} {{ 'a' is string }} {{ 3 is odd }}",
       "False True True True"},
      {"{{ {} is mapping }} {{ [] is iterable }} {{ 1 is not number }} {{ 2 is equalto 2 }}",
       "True True False True"},
      {"{{ 3.0 is odd }} {{ 2.5 is odd }} {{ 4 is divisibleby 2 }}", "True False True"},
      {"{{ 'x,y'.split(',')[1] }}{{ ' a'.lstrip() }}{{ 'b\\n'.rstrip('\\n') }}", "yab"},
      {"{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }}", "True True"},
      {"{{ {'a': 1}.get('b', 2) }}{{ {'a': 1}.get('b') }}", "2None"},
      {"{{ 'a\u00a0\u3000' | trim }}.", "a."},
      {"{{ ' a  b c \n'.split(none, 1)[1] }}|{{ ' a '.split(none, 0)[0] }}|", "b c \n|a |"},
      {"{{ 'a \t'.split(none, 1) | length }} {{ ' '.split(none, 1) | length }}", "1 0"},
      {"{{ '0x1' | int }} {{ '0b1' | int(2) }} {{ '1_000' | int }} {{ '1__0' | int }}",
       "0 2 1000 0"},
      {"{{ ' -5.9 ' | int }} {{ '1e400' | int(3) }} {{ 'inf' | int }} {{ '_1' | int }}",
       "-5 3 0 0"},
      {"{{ strftime_now('%d %b %Y') | length }}", "11"},
  });
}

TEST(Template, UndefinedIsEmptyUntilItIsUsed) {
  ExpectAll(
      {{"a{{ x }}{{ m.x }}{% for i in x %}1{% endfor %}{{ x ~ 'b' }}{{ x | length }}", "ab0"},
       {"{{ x == y }}{{ 'a' in x }}{{ not x }}{{ none.a is defined }}", "TrueFalseTrueFalse"}},
      {{"m", json::object()}});
  EXPECT_EQ(Error("\n{{ x.y }}"), "line 2: 'x' is undefined");
  EXPECT_EQ(Error("{{ m.x.y }}", {{"m", json::object()}}), "line 1: a dict has no 'x'");
  EXPECT_EQ(Error("{{ x + 'a' }}"), "line 1: 'x' is undefined");
  EXPECT_EQ(Error("{{ x() }}"), "line 1: the function 'x' is not supported");
}

TEST(Template, WhatIsNotSupportedIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n{{ x | wordwrap }}", "line 2: the filter 'wordwrap' is not supported"},
      {"{{ x is escaped }}", "line 1: the test 'escaped' is not supported"},
      {"{{ x.append(1) }}", "line 1: the method 'append' is not supported"},
      {"{{ cycler(1) }}", "line 1: the function 'cycler' is not supported"},
      {"{% include 'x' %}", "line 1: the tag 'include' is not supported"},
      {"{{ 2 ** 3 }}", "line 1: the operator ** is not supported"},
      {"{{ x | tojson(depth=3) }}",
       "line 1: the filter 'tojson' takes no (other) argument 'depth'"},
      {"{% for x in y recursive %}{% endfor %}", "line 1: a recursive loop is not supported"},
      {"{{ f(*x) }}", "line 1: arguments by * or ** are not supported"},
      {"{{ '\\N{DASH}' }}", "line 1: the escape \\N{name} is not supported"},
  };
  for (const auto& [source, message] : cases) EXPECT_THAT(Error(source), StartsWith(message));
}

TEST(Template, WhatIsNoTemplateIsRefusedWithItsLine) {
  for (const char* source :
       {"{{ x", "{% if x %}", "{{ 'a }}", "{# a", "{{ ) }}", "{% endif %}", "{{ }}", "{{ a b }}",
        "{% for x %}{% endfor %}", "{% break %}", "{{ a[] }}", "{{ 007 }}", "{{ a ! b }}",
        "{% if x %}{% else %}{% else %}{% endif %}", "{{ x is defined is defined }}"}) {
    EXPECT_THAT(Error(source), StartsWith("line 1: ")) << source;
  }
  EXPECT_THAT(Error("\xff"), HasSubstr("not UTF-8 at byte 0"));
}

TEST(Template, MistakesAreToldWithTheirLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n\n{{ 'a' + 1 }}", "line 3: '+' of str and int is not possible"},
      {"{{ 1 in 2 }}", "line 1: 'in' of int and int is not possible"},
      {"{{ none | length }}", "line 1: a NoneType has no length"},
      {"{{ [1] }}", "line 1: a list as text is not supported; use tojson"},
      {"{{ '\u00e9' | upper }}", "line 1: letters' case changes in ASCII alone"},
      {"{{ {'a': 1}.items }}", "line 1: the method 'items' is not called"},
      {"{% for a, b in [[1]] %}{% endfor %}", "line 1: a loop has 2 variables for 1 values"},
      {"{% set x.y = 1 %}", "line 1: 'x' is no namespace"},
      {"{{ [].count(1) }}", "line 1: the method 'count' of a list is not supported"},
      {"{{ 1 // 0 }}", "line 1: division by zero"},
      {"{{ 9223372036854775807 + 1 }}", "line 1: a number is too large"},
      {"{{ '12345678901234567890' | int }}", "line 1: an integer is beyond 64 bits"},
      {"{{ 1e19 | int }}", "line 1: an integer is beyond 64 bits"},
      {"{{ 12345678901234567890 }}", "line 1: '12345678901234567890' is no decimal number"},
  };
  for (const auto& [source, message] : cases) EXPECT_THAT(Error(source), StartsWith(message));
}

TEST(Template, RaisesInItsOwnWords) {
  const absl::Status status = TryRender("{{ raise_exception('Roles ' ~ 'alternate') }}").status();
  EXPECT_EQ(status, absl::AbortedError("Roles alternate"));
}

}  // namespace
}  // namespace based::jinja
