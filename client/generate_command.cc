// based generate: streams one completion to the terminal.
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "based/v1/completion.grpc.pb.h"
#include "client/common_flags.h"
#include "client/input.h"
#include "client/remote.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, prompt, "", "Text to continue. Without any prompt, standard input is read.");
ABSL_FLAG(std::string, prompt_file, "", "File whose text is the prompt; - is standard input.");
ABSL_FLAG(std::string, prompt_token_ids, "", "Prompt as token ids with commas between.");
ABSL_FLAG(int64_t, max_tokens, 256, "Tokens to generate at most.");
ABSL_FLAG(float, temperature, 1.0f, "Divides the logits; 0 takes the most likely token.");
ABSL_FLAG(int32_t, top_k, 0, "Keeps this many of the most likely tokens; 0: off.");
ABSL_FLAG(float, top_p, 1.0f,
          "Keeps the most likely tokens up to this sum of probabilities; 1: off.");
ABSL_FLAG(float, min_p, 0.0f,
          "Keeps tokens at least this many times as likely as the most likely; 0: off.");
ABSL_FLAG(uint64_t, seed, 0, "Seed of the draw. Without it the daemon chooses one.");
ABSL_FLAG(std::string, stop, "", "Ends the text before this string. May be given several times.");
ABSL_FLAG(std::string, stop_token_ids, "", "Ends at any of these ids, with commas between.");
ABSL_FLAG(bool, ignore_eos, false, "Goes on past the end-of-text token.");
ABSL_FLAG(bool, token_ids, false, "Prints token ids instead of text.");
ABSL_FLAG(bool, stats, false, "Prints tokens and times on standard error at the end.");

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

absl::Status SetPrompt(const CommandLine& line, v1::GenerateRequest& request) {
  const int given = line.Has("prompt") + line.Has("prompt_file") + line.Has("prompt_token_ids") +
                    !line.positional.empty();
  if (given > 1) {
    return UsageError("more than one prompt; expected one of --prompt, --prompt_file, "
                      "--prompt_token_ids or words");
  }
  if (line.Has("prompt")) {
    request.set_text(absl::GetFlag(FLAGS_prompt));
  } else if (line.Has("prompt_token_ids")) {
    BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           ParseIds("prompt_token_ids", absl::GetFlag(FLAGS_prompt_token_ids)));
    request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  } else if (!line.positional.empty()) {
    request.set_text(absl::StrJoin(line.positional, " "));
  } else {
    const std::string path = line.Has("prompt_file") ? absl::GetFlag(FLAGS_prompt_file) : "-";
    if (path == "-" && ::isatty(STDIN_FILENO)) {
      return UsageError("no prompt; expected --prompt TEXT, --prompt_file FILE or standard input");
    }
    BASED_ASSIGN_OR_RETURN(std::string text, ReadInput(path));
    // A line break at the end belongs to the file, not to the prompt.
    if (absl::StripSuffix(text, "\n").size() < text.size()) text.pop_back();
    request.set_text(std::move(text));
  }
  return absl::OkStatus();
}

// Prints the stream as text or JSON.
class Printer {
 public:
  void Print(const v1::GenerateResponse& message) {
    if (message.has_delta() && first_ == Clock::time_point()) first_ = Clock::now();
    if (message.has_done()) done_ = message.done();
    if (absl::GetFlag(FLAGS_json)) {
      std::printf("%s\n", ToJson(message).c_str());
    } else if (message.has_delta()) {
      PrintDelta(message.delta());
    }
    std::fflush(stdout);
  }

  void End() {
    if (!absl::GetFlag(FLAGS_json)) std::printf("\n");
    std::fflush(stdout);
    if (!absl::GetFlag(FLAGS_stats)) return;
    const auto seconds = [this](Clock::time_point time) {
      return std::chrono::duration<double>(time - start_).count();
    };
    const std::string reason = absl::AsciiStrToLower(
        absl::StripPrefix(v1::FinishReason_Name(done_.finish_reason()), "FINISH_REASON_"));
    const double decode_s = 1e-6 * static_cast<double>(done_.timings().decode_us());
    const int64_t tokens = done_.usage().generated_tokens();
    std::fprintf(stderr,
                 "prompt_tokens=%lld generated_tokens=%lld finish_reason=%s first_token_s=%.3f "
                 "total_s=%.3f tokens_per_s=%.1f\n",
                 static_cast<long long>(done_.usage().prompt_tokens()),
                 static_cast<long long>(tokens), reason.c_str(),
                 first_ == Clock::time_point() ? 0.0 : seconds(first_), seconds(Clock::now()),
                 decode_s > 0 ? static_cast<double>(tokens - 1) / decode_s : 0.0);
  }

 private:
  static void PrintDelta(const v1::Delta& delta) {
    if (!absl::GetFlag(FLAGS_token_ids)) {
      std::fwrite(delta.text().data(), 1, delta.text().size(), stdout);
      return;
    }
    for (int32_t id : delta.token_ids()) std::printf("%d ", id);
  }

  const Clock::time_point start_ = Clock::now();
  Clock::time_point first_;
  v1::Done done_;
};

absl::Status Generate(const CommandLine& line) {
  BASED_ASSIGN_OR_RETURN(const v1::GenerateRequest request, RequestFromFlags(line));
  const auto stub = v1::CompletionService::NewStub(DaemonChannel());
  grpc::ClientContext context;
  SetDeadline(context);
  Printer printer;
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse message;
  bool any = false;
  while (reader->Read(&message)) {
    any = true;
    printer.Print(message);
  }
  const absl::Status status = FromGrpc(reader->Finish());
  if (any) printer.End();
  return status;
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const CommandLine& line) {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  BASED_RETURN_IF_ERROR(SetPrompt(line, request));
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (line.Has("temperature")) sampling.set_temperature(absl::GetFlag(FLAGS_temperature));
  if (line.Has("top_k")) sampling.set_top_k(absl::GetFlag(FLAGS_top_k));
  if (line.Has("top_p")) sampling.set_top_p(absl::GetFlag(FLAGS_top_p));
  if (line.Has("min_p")) sampling.set_min_p(absl::GetFlag(FLAGS_min_p));
  if (line.Has("seed")) sampling.set_seed(absl::GetFlag(FLAGS_seed));
  v1::StopConditions& stop = *request.mutable_stop();
  if (line.Has("max_tokens")) stop.set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  for (const std::string& text : line.All("stop")) stop.add_strings(text);
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         ParseIds("stop_token_ids", absl::GetFlag(FLAGS_stop_token_ids)));
  stop.mutable_token_ids()->Add(ids.begin(), ids.end());
  if (line.Has("ignore_eos")) stop.set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
  if (absl::GetFlag(FLAGS_token_ids)) {
    request.mutable_output()->set_token_ids(true);
    if (!absl::GetFlag(FLAGS_json)) request.mutable_output()->set_text(false);
  }
  return request;
}

Command GenerateCommand() {
  return {.name = "generate",
          .summary = "Streams one completion to the terminal.",
          .examples = "  based generate --prompt 'It was a dark night' --max_tokens 100\n"
                      "  based generate --prompt_file letter.txt --temperature 0.8 --top_p 0.95\n"
                      "  echo 'Once upon a time' | based generate --stop . --stop '!' --seed 7\n",
          .flags = {{"Prompt", {"prompt", "prompt_file", "prompt_token_ids", "model"}},
                    {"Sampling", {"temperature", "top_k", "top_p", "min_p", "seed"}},
                    {"Stop", {"max_tokens", "stop", "stop_token_ids", "ignore_eos"}},
                    {"Output", {"token_ids", "json", "stats"}},
                    kDaemonFlags},
          .run = Generate};
}

}  // namespace based
