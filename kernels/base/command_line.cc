#include "kernels/base/command_line.h"

#include <algorithm>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr size_t kHelpWidth = 96;

bool IsKnown(absl::string_view name, absl::Span<const FlagGroup> groups) {
  return std::any_of(groups.begin(), groups.end(), [&](const FlagGroup& group) {
    return std::find(group.flags.begin(), group.flags.end(), name) != group.flags.end();
  });
}

absl::CommandLineFlag* FindFlag(absl::string_view name) {
  absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
  BASED_CHECK(flag != nullptr);
  return flag;
}

// One "--..." argument cut in two.
struct FlagText {
  std::string name;
  std::string value;
  bool has_value = false;
};

FlagText Split(absl::string_view argument) {
  FlagText text;
  absl::ConsumePrefix(&argument, "--");
  const size_t equals = argument.find('=');
  text.name = std::string(argument.substr(0, equals));
  if (equals != absl::string_view::npos) {
    text.value = std::string(argument.substr(equals + 1));
    text.has_value = true;
  }
  return text;
}

// Resolves --nobool and a bare --bool; UNKNOWN flags are refused here.
absl::Status Resolve(FlagText& text, absl::Span<const FlagGroup> groups) {
  if (!IsKnown(text.name, groups)) {
    absl::string_view positive = text.name;
    if (text.has_value || !absl::ConsumePrefix(&positive, "no") || !IsKnown(positive, groups) ||
        !FindFlag(positive)->IsOfType<bool>()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag --", text.name, "; see --help"));
    }
    text = {.name = std::string(positive), .value = "false", .has_value = true};
  }
  if (!text.has_value && FindFlag(text.name)->IsOfType<bool>()) {
    text.value = "true";
    text.has_value = true;
  }
  return absl::OkStatus();
}

absl::Status Assign(const FlagText& text) {
  std::string error;
  if (FindFlag(text.name)->ParseFrom(text.value, &error)) return absl::OkStatus();
  // Abseil's text, "Illegal value 'x' specified for flag 'y'" and a reason, may hold line breaks.
  std::replace(error.begin(), error.end(), '\n', ' ');
  absl::StripAsciiWhitespace(&error);
  return absl::InvalidArgumentError(absl::StrCat("--", text.name, ": ", error));
}

std::string Wrap(absl::string_view text, absl::string_view indent) {
  std::string out;
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column == 0 || column + 1 + word.size() > kHelpWidth) {
      absl::StrAppend(&out, column == 0 ? "" : "\n", indent, word);
      column = indent.size() + word.size();
    } else {
      absl::StrAppend(&out, " ", word);
      column += 1 + word.size();
    }
  }
  return out;
}

}  // namespace

bool CommandLine::Has(absl::string_view flag) const {
  return std::any_of(flags.begin(), flags.end(), [&](const auto& f) { return f.first == flag; });
}

std::vector<std::string> CommandLine::All(absl::string_view flag) const {
  std::vector<std::string> values;
  for (const auto& [name, value] : flags) {
    if (name == flag) values.push_back(value);
  }
  return values;
}

absl::StatusOr<CommandLine> ParseCommandLine(absl::Span<const char* const> arguments,
                                             absl::Span<const FlagGroup> groups) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const absl::string_view argument = arguments[i];
    if (argument == "--") {
      line.positional.insert(line.positional.end(), arguments.begin() + i + 1, arguments.end());
      break;
    }
    if (argument == "--help" || argument == "-h") {
      line.help = true;
      continue;
    }
    if (!absl::StartsWith(argument, "--")) {
      line.positional.emplace_back(argument);
      continue;
    }
    FlagText text = Split(argument);
    BASED_RETURN_IF_ERROR(Resolve(text, groups));
    if (!text.has_value) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat("--", text.name, " needs a value"));
      }
      text.value = arguments[++i];
    }
    BASED_RETURN_IF_ERROR(Assign(text));
    line.flags.emplace_back(std::move(text.name), std::move(text.value));
  }
  return line;
}

std::string FlagsHelp(absl::Span<const FlagGroup> groups) {
  std::string out;
  for (const FlagGroup& group : groups) {
    absl::StrAppend(&out, "\n", group.title, ":\n");
    for (absl::string_view name : group.flags) {
      const absl::CommandLineFlag* flag = FindFlag(name);
      const std::string initial = flag->DefaultValue();
      absl::StrAppend(&out, "  --", name);
      if (!initial.empty()) absl::StrAppend(&out, " (default ", initial, ")");
      absl::StrAppend(&out, "\n", Wrap(flag->Help(), "      "), "\n");
    }
  }
  return out;
}

}  // namespace based
