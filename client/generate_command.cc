#include "client/generate_command.h"

#include <utility>

#include "absl/flags/flag.h"
#include "client/common_flags.h"
#include "client/generate_flags.h"
#include "client/generate_printer.h"
#include "kernels/base/status.h"

ABSL_FLAG(bool, local, false, "Runs the engine in this process on --model DIR, without a daemon.");
ABSL_FLAG(bool, stats, false,
          "Prints tokens and times on standard error at the end. first_token_s: until the first "
          "generated token, and tokens_per_s: those after it, of all completions together, as the "
          "engine measured them; total_s: of the whole call, seen from here.");

namespace based {
namespace {

absl::Status Generate(const CommandLine& line, const Generator& generator) {
  if (absl::GetFlag(FLAGS_local) && line.Has("address")) {
    return UsageError("--local runs without a daemon, --address names one: give one of them");
  }
  BASED_ASSIGN_OR_RETURN(const GenerateOptions options, GenerateOptionsFromFlags(line));
  GeneratePrinter printer({.json = absl::GetFlag(FLAGS_json),
                           .several = options.n.value_or(1) > 1,
                           .stats = absl::GetFlag(FLAGS_stats)});
  const absl::Status status =
      generator(options, [&printer](const GenerateEvent& event) { printer.Print(event); });
  printer.End();
  return status;
}

}  // namespace

Command GenerateCommand(Generator daemon, Generator here) {
  std::vector<FlagGroup> groups = GenerateFlagGroups();
  groups.push_back({"Messages on standard error", {"stats"}});
  groups.push_back({"Without a daemon", {"local", "tokenizer"}});
  groups.push_back(kEngineFlags);
  groups.push_back(kDaemonFlags);
  return {.name = "generate",
          .summary = "Streams completions to the terminal.",
          .examples =
              "  based generate --prompt 'It was a dark night' --max_tokens 100\n"
              "  based generate --prompt_file letter.txt --temperature 0.8 --top_p 0.95\n"
              "  echo 'Once upon a time' | based generate --stop . --stop '!' --seed 7\n"
              "  based generate --prompt Hello --n 4 --best_of 8 --max_tokens 20\n"
              "  based generate --prompt Hello --logprobs --top_logprobs 5 --json\n"
              "  based generate --prompt Hello --bad_words the --logit_bias 17:-2,4:1.5\n"
              "  based generate --prompt 'Is it so? ' --choice yes --choice no\n"
              "  based generate --local --model models/demo --prompt Hello --seed 7\n",
          .flags = std::move(groups),
          .run = [daemon = std::move(daemon), here = std::move(here)](const CommandLine& line) {
            return Generate(line, absl::GetFlag(FLAGS_local) ? here : daemon);
          }};
}

}  // namespace based
