#include "client/tokenize_command.h"

#include "absl/flags/flag.h"
#include "absl/strings/str_join.h"
#include "client/common_flags.h"
#include "client/input.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, ids, "", "Token ids, with commas between, to turn into text.");

namespace based {
namespace {

absl::Status Tokenize(const CommandLine& line, const TokenizeActions& actions) {
  if (line.Has("text") + line.Has("file") + line.Has("ids") + !line.positional.empty() > 1) {
    return UsageError("more than one input; expected one of --text, --file, --ids or words");
  }
  if (line.Has("ids")) {
    BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           ParseIds("ids", absl::GetFlag(FLAGS_ids)));
    return actions.detokenize(ids);
  }
  std::string text = absl::GetFlag(FLAGS_text);
  if (!line.positional.empty()) {
    text = absl::StrJoin(line.positional, " ");
  } else if (!line.Has("text")) {
    BASED_ASSIGN_OR_RETURN(text, ReadInput(line.Has("file") ? absl::GetFlag(FLAGS_file) : "-"));
  }
  return actions.tokenize(text);
}

}  // namespace

Command TokenizeCommand(TokenizeActions daemon, TokenizeActions here) {
  return {.name = "tokenize",
          .summary = "Turns text into token ids, or --ids into text.",
          .examples =
              "  based tokenize --text 'It was a dark night'\n"
              "  based tokenize --file letter.txt --tokenizer models/demo\n"
              "  based tokenize --ids 17,4,250\n",
          .flags = {{"Input", {"text", "file", "ids"}},
                    {"Tokenizer in this process instead of the daemon's", {"tokenizer"}},
                    {"Output", {"json"}},
                    {"Model", {"model"}},
                    kDaemonFlags},
          .run = [daemon, here](const CommandLine& line) {
            return Tokenize(line, absl::GetFlag(FLAGS_tokenizer).empty() ? daemon : here);
          }};
}

}  // namespace based
