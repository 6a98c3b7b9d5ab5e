#include "engine/constraint/json_formats.h"

#include "absl/strings/str_cat.h"

namespace based {
namespace {

constexpr char kYear[] = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)";
constexpr char kLeapYear[] =
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
constexpr char kTime[] = R"((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?)"
                         "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
constexpr char kHostname[] = R"([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
                             R"((?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?){0,3})";
constexpr char kNoDoubleHyphen[] = "(?:[^-]|-[^-])*";
constexpr char kByte[] = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

std::string Date() {
  return absl::StrCat("(?:", kYear,
                      "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
                      "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|",
                      kLeapYear, "-02-29)");
}

std::string Ipv4() { return absl::StrCat("(?:", kByte, R"(\.){3})", kByte); }

// Eight groups, or fewer around one "::"; the last two may be an IPv4 address.
std::string Ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  const std::string last_two = absl::StrCat("(?:", group, ":", group, "|", Ipv4(), ")");
  std::string all = absl::StrCat("(?:", group, ":){6}", last_two);
  for (int before = 0; before <= 7; ++before) {
    const std::string head = before == 0 ? ":" : absl::StrCat("(?:", group, ":){", before, "}");
    const int most_behind = 7 - before;
    absl::StrAppend(&all, "|", head, ":(?:", most_behind > 0 ? group : "", ")?");
    if (most_behind > 1) {
      absl::StrAppend(&all, "|", head, ":(?:", group, ":){0,", most_behind - 2, "}", last_two);
    }
  }
  return all;
}

std::string Duration() {
  const std::string number = "[0-9]{1,6}";
  const auto nested = [&number](std::string_view units) {
    // Units from large to small without a gap: xY[xM[xD]], xM[xD], xD.
    std::string all;
    for (size_t first = 0; first < units.size(); ++first) {
      std::string from;
      for (size_t i = units.size(); i > first; --i) {
        const std::string inner = from.empty() ? "" : absl::StrCat("(?:", from, ")?");
        from = absl::StrCat(number, std::string(1, units[i - 1]), inner);
      }
      absl::StrAppend(&all, first == 0 ? "" : "|", from);
    }
    return absl::StrCat("(?:", all, ")");
  };
  const std::string time = absl::StrCat("T", nested("HMS"));
  return absl::StrCat("P(?:", number, "W|", nested("YMD"), "(?:", time, ")?|", time, ")");
}

}  // namespace

std::vector<std::string> FormatPatterns(std::string_view name) {
  if (name == "date") return {Date()};
  if (name == "time") return {kTime};
  if (name == "date-time") return {absl::StrCat(Date(), "[tT]", kTime)};
  if (name == "duration") return {Duration()};
  if (name == "hostname") return {kHostname, kNoDoubleHyphen};
  if (name == "email") {
    const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,16}";
    return {absl::StrCat(atom, R"((?:\.)", atom, "){0,3}@", kHostname),
            absl::StrCat("[^@]*@", kNoDoubleHyphen)};
  }
  if (name == "ipv4") return {Ipv4()};
  if (name == "ipv6") return {Ipv6()};
  if (name == "uuid") {
    return {"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"};
  }
  return {};
}

}  // namespace based
