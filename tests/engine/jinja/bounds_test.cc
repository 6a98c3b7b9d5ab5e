// Templates that mean harm: each ends, soon and with a message.
#include <chrono>

#include "absl/strings/str_cat.h"
#include "engine/jinja/template.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based::jinja {
namespace {

using testing::HasSubstr;

std::string Repeat(std::string_view part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

std::string Error(const std::string& source, Entries globals = {}) {
  const absl::StatusOr<Template> compiled = Template::Compile(source);
  if (!compiled.ok()) return std::string(compiled.status().message());
  return std::string(
      compiled->Render(std::move(globals), std::chrono::system_clock::now()).status().message());
}

TEST(Bounds, Steps) {
  const std::string loop = "{% for i in range(100000) %}";
  EXPECT_THAT(Error(loop + loop + "{% endfor %}{% endfor %}"), HasSubstr("bytes of work"));
}

TEST(Bounds, Text) {
  EXPECT_THAT(Error("{% set ns = namespace(t='0123456789') %}{% for i in range(100) %}"
                    "{% set ns.t = ns.t + ns.t %}{% endfor %}"),
              HasSubstr("bytes of work"));
  EXPECT_THAT(Error("{{ 'x' * 1000000000000 }}"), HasSubstr("too long"));
  EXPECT_THAT(Error("{{ 'x' * 17000000 }}"), HasSubstr("longer than 16777216 bytes"));
  EXPECT_THAT(Error("{% set x = 'a' * 100000 %}{{ x | replace('', x) }}"),
              HasSubstr("may become too long"));
  EXPECT_THAT(Error("{{ [1] * 100000000 }}"), HasSubstr("bytes of work"));
  EXPECT_THAT(Error("{% set t = 'x' * 1000000 %}{% for i in range(100000) %}"
                    "{% if t | length == 1 %}{% endif %}{% endfor %}"),
              HasSubstr("bytes of work"));
}

TEST(Bounds, Searches) {
  const std::string loop =
      "{% set t = 'a' * 1000000 %}{% set s = 'a' * 100000 + 'b' %}"
      "{% for i in range(100000) %}";
  for (const char* search :
       {"{% if s in t %}{% endif %}", "{% set x = t.split(s) %}", "{% set x = t.find(s) %}",
        "{% set x = t.count(s) %}", "{% set x = t.replace(s, '') %}", "{% set x = t.strip(s) %}",
        "{% set x = t.rsplit(s) %}", "{{ {t: 1}.get(t ~ i) }}"}) {
    EXPECT_THAT(Error(loop + search + "{% endfor %}"), HasSubstr("bytes of work")) << search;
  }
}

TEST(Bounds, Names) {
  std::string many = "{% set x = 1 %}";
  for (int i = 0; i < 9'000; ++i) many += absl::StrCat("{% set v", i, " = 1 %}");
  EXPECT_THAT(Error(many + "{% for i in range(100000) %}{{ x }}{% endfor %}"),
              HasSubstr("bytes of work"));
}

TEST(Bounds, Nesting) {
  EXPECT_THAT(Error("{{ " + Repeat("(", 10'000) + Repeat(")", 10'000) + " }}"),
              HasSubstr("nests deeper"));
  EXPECT_THAT(Error("{{ " + Repeat("[", 10'000) + Repeat("]", 10'000) + " }}"),
              HasSubstr("nests deeper"));
  EXPECT_THAT(Error("{{ " + Repeat("- ", 10'000) + "1 }}"), HasSubstr("nests deeper"));
  EXPECT_THAT(Error("{{ " + Repeat("not ", 10'000) + "1 }}"), HasSubstr("nests deeper"));
  EXPECT_THAT(Error("{{ a" + Repeat(".a", 10'000) + " }}"), HasSubstr("nests deeper"));
  EXPECT_THAT(Error("{{ a" + Repeat("|trim", 10'000) + " }}"), HasSubstr("nests deeper"));
  EXPECT_THAT(Error(Repeat("{% if 1 %}", 10'000)), HasSubstr("nest deeper"));
  EXPECT_THAT(Error("{% if 1 %}" + Repeat("{% elif 1 %}", 10'000) + "{% endif %}"), "");
}

// Flat, however long.
TEST(Bounds, Chains) {
  for (const char* link : {" + 1", " * 1", " ~ 1", " or 0", " and 1", " - 1 + 1"}) {
    EXPECT_EQ(Error("{{ 1" + Repeat(link, 10'000) + " }}"), "") << link;
  }
}

TEST(Bounds, Recursion) {
  EXPECT_THAT(Error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("recurses"));
}

TEST(Bounds, Values) {
  EXPECT_THAT(Error("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}"
                    "{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("nest deeper than 100"));
  EXPECT_THAT(Error("{% set ns = namespace() %}{% set ns.self = ns %}"),
              HasSubstr("within another value"));
  EXPECT_THAT(Error("{% for i in [1] %}{% set x = [loop] %}{% endfor %}"),
              HasSubstr("within another value"));
}

TEST(Bounds, Source) {
  EXPECT_THAT(Error(std::string(300'000, 'x')), HasSubstr("300000 bytes long"));
  EXPECT_EQ(Error("{{ raise_exception(x) }}", {{"x", Value(std::string(10'000, 'y'))}}).size(),
            500u);
}

TEST(Bounds, TenThousandMessagesAndTheLargestTextFit) {
  Items messages;
  for (int i = 0; i < 10'000; ++i) {
    messages.push_back(Value::OfDict({{"role", i % 2 == 0 ? "user" : "assistant"},
                                      {"content", Value(std::string(1'500, 'x'))}}));
  }
  EXPECT_EQ(Error("{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
                  "{{ raise_exception('order') }}{% endif %}"
                  "{{ '<|' + m['role'] + '|>\\n' + m['content'] | trim + '<|end|>' + '\\n' }}"
                  "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
                  {{"messages", Value::OfList(std::move(messages))}}),
            "");
}

}  // namespace
}  // namespace based::jinja
