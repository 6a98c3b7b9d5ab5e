// based generate: streams one completion to the terminal.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
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
ABSL_FLAG(float, typical_p, 1.0f, "Locally typical sampling up to this sum; 1: off.");
ABSL_FLAG(float, repetition_penalty, 1.0f, "Penalty of tokens seen in prompt or output; 1: off.");
ABSL_FLAG(float, presence_penalty, 0.0f, "Subtracted from the logits of tokens in the output.");
ABSL_FLAG(float, frequency_penalty, 0.0f, "Subtracted once per occurrence in the output.");
ABSL_FLAG(std::string, logit_bias, "", "Added to logits: id:bias,id:bias.");
ABSL_FLAG(std::string, bad_words, "",
          "A word that may not be produced. May be given several times.");
ABSL_FLAG(std::string, allowed_token_ids, "", "Draws only these ids, with commas between.");
ABSL_FLAG(uint64_t, seed, 0, "Seed of the draw. Without it the daemon chooses one.");
ABSL_FLAG(std::string, stop, "", "Ends the text before this string. May be given several times.");
ABSL_FLAG(std::string, stop_token_ids, "", "Ends at any of these ids, with commas between.");
ABSL_FLAG(bool, ignore_eos, false, "Goes on past the end-of-text token.");
ABSL_FLAG(int64_t, min_tokens, 0, "Tokens before end-of-text or a stop may end the text.");
ABSL_FLAG(bool, include_stop, false, "Keeps the stop that matched in the output.");
ABSL_FLAG(int32_t, n, 1, "Completions to return.");
ABSL_FLAG(int32_t, best_of, 1, "Completions to draw, of which the n most likely are returned.");
ABSL_FLAG(bool, logprobs, false, "Log-probability of each token; see --json.");
ABSL_FLAG(int32_t, top_logprobs, 0, "The most likely tokens beside each log-probability, to 20.");
ABSL_FLAG(bool, echo, false, "Prints the prompt before the completion.");
ABSL_FLAG(bool, prompt_logprobs, false, "Log-probabilities of the prompt's tokens; see --json.");
ABSL_FLAG(int32_t, tokens_per_message, 1, "Tokens that the daemon merges into one message.");
ABSL_FLAG(int32_t, delta_interval_ms, 0, "Milliseconds that the daemon may wait to merge tokens.");
ABSL_FLAG(bool, token_ids, false, "Prints token ids instead of text.");
ABSL_FLAG(bool, stats, false, "Prints tokens and times on standard error at the end.");

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

absl::Status SetPrompt(const CommandLine& line, v1::GenerateRequest& request) {
  const int given = line.Has("prompt") + line.Has("prompt_file") + line.Has("prompt_token_ids") +
                    !line.positional.empty();
  if (given > 1) {
    return UsageError(
        "more than one prompt; expected one of --prompt, --prompt_file, "
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
  explicit Printer(bool several) : several_(several) {}

  void Print(const v1::GenerateResponse& message) {
    if (message.has_delta() && first_ == Clock::time_point()) first_ = Clock::now();
    if (message.has_done()) {
      done_ = message.done();
      generated_ += done_.usage().generated_tokens();
    }
    if (absl::GetFlag(FLAGS_json)) {
      std::printf("%s\n", ToJson(message).c_str());
    } else if (message.has_delta() && !several_) {
      PrintDelta(message.delta());
    } else if (message.has_delta()) {
      std::string& text = texts_[message.delta().index()];
      absl::StrAppend(&text, TextOf(message.delta()));
    } else if (message.has_done() && several_) {
      std::printf("[%d] %s\n", message.done().index(), texts_[message.done().index()].c_str());
    }
    std::fflush(stdout);
  }

  void End() {
    if (!absl::GetFlag(FLAGS_json) && !several_) std::printf("\n");
    std::fflush(stdout);
    if (!absl::GetFlag(FLAGS_stats)) return;
    const auto seconds = [this](Clock::time_point time) {
      return std::chrono::duration<double>(time - start_).count();
    };
    const std::string reason = absl::AsciiStrToLower(
        absl::StripPrefix(v1::FinishReason_Name(done_.finish_reason()), "FINISH_REASON_"));
    const double decode_s = 1e-6 * static_cast<double>(done_.timings().decode_us());
    const int64_t tokens = generated_;
    std::fprintf(stderr,
                 "prompt_tokens=%lld generated_tokens=%lld finish_reason=%s first_token_s=%.3f "
                 "total_s=%.3f tokens_per_s=%.1f\n",
                 static_cast<long long>(done_.usage().prompt_tokens()),
                 static_cast<long long>(tokens), reason.c_str(),
                 first_ == Clock::time_point() ? 0.0 : seconds(first_), seconds(Clock::now()),
                 decode_s > 0 ? static_cast<double>(tokens - 1) / decode_s : 0.0);
  }

 private:
  static std::string TextOf(const v1::Delta& delta) {
    if (!absl::GetFlag(FLAGS_token_ids)) return delta.text();
    std::string ids;
    for (int32_t id : delta.token_ids()) absl::StrAppend(&ids, id, " ");
    return ids;
  }

  static void PrintDelta(const v1::Delta& delta) {
    const std::string text = TextOf(delta);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }

  const bool several_;  // completions, which are printed whole, each when it has ended
  std::map<int32_t, std::string> texts_;
  int64_t generated_ = 0;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point first_;
  v1::Done done_;
};

absl::Status Generate(const CommandLine& line) {
  BASED_ASSIGN_OR_RETURN(const v1::GenerateRequest request, RequestFromFlags(line));
  const auto stub = v1::CompletionService::NewStub(DaemonChannel());
  grpc::ClientContext context;
  SetDeadline(context);
  Printer printer(request.n() > 1);
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

namespace {

absl::Status SetLogitBias(v1::SamplingParams& sampling) {
  for (const absl::string_view entry :
       absl::StrSplit(absl::GetFlag(FLAGS_logit_bias), ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(entry, ':');
    int32_t id = 0;
    float bias = 0;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      return UsageError(absl::StrCat("--logit_bias holds '", entry, "'; expected id:bias"));
    }
    (*sampling.mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

absl::Status SetSampling(const CommandLine& line, v1::SamplingParams& sampling) {
  if (line.Has("temperature")) sampling.set_temperature(absl::GetFlag(FLAGS_temperature));
  if (line.Has("top_k")) sampling.set_top_k(absl::GetFlag(FLAGS_top_k));
  if (line.Has("top_p")) sampling.set_top_p(absl::GetFlag(FLAGS_top_p));
  if (line.Has("min_p")) sampling.set_min_p(absl::GetFlag(FLAGS_min_p));
  if (line.Has("typical_p")) sampling.set_typical_p(absl::GetFlag(FLAGS_typical_p));
  if (line.Has("repetition_penalty")) {
    sampling.set_repetition_penalty(absl::GetFlag(FLAGS_repetition_penalty));
  }
  if (line.Has("presence_penalty")) {
    sampling.set_presence_penalty(absl::GetFlag(FLAGS_presence_penalty));
  }
  if (line.Has("frequency_penalty")) {
    sampling.set_frequency_penalty(absl::GetFlag(FLAGS_frequency_penalty));
  }
  if (line.Has("seed")) sampling.set_seed(absl::GetFlag(FLAGS_seed));
  for (const std::string& word : line.All("bad_words")) sampling.add_bad_words(word);
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> allowed,
                         ParseIds("allowed_token_ids", absl::GetFlag(FLAGS_allowed_token_ids)));
  sampling.mutable_allowed_token_ids()->Add(allowed.begin(), allowed.end());
  return SetLogitBias(sampling);
}

absl::Status SetStop(const CommandLine& line, v1::StopConditions& stop) {
  if (line.Has("max_tokens")) stop.set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  if (line.Has("min_tokens")) stop.set_min_tokens(absl::GetFlag(FLAGS_min_tokens));
  if (line.Has("include_stop")) stop.set_include_stop(absl::GetFlag(FLAGS_include_stop));
  if (line.Has("ignore_eos")) stop.set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
  for (const std::string& text : line.All("stop")) stop.add_strings(text);
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         ParseIds("stop_token_ids", absl::GetFlag(FLAGS_stop_token_ids)));
  stop.mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

void SetOutput(const CommandLine& line, v1::OutputOptions& output) {
  if (absl::GetFlag(FLAGS_token_ids)) {
    output.set_token_ids(true);
    if (!absl::GetFlag(FLAGS_json)) output.set_text(false);
  }
  if (line.Has("logprobs")) output.set_logprobs(absl::GetFlag(FLAGS_logprobs));
  if (line.Has("top_logprobs")) output.set_top_logprobs(absl::GetFlag(FLAGS_top_logprobs));
  if (line.Has("echo")) output.set_echo(absl::GetFlag(FLAGS_echo));
  if (line.Has("prompt_logprobs")) {
    output.set_prompt_logprobs(absl::GetFlag(FLAGS_prompt_logprobs));
  }
  if (line.Has("tokens_per_message")) {
    output.set_tokens_per_message(absl::GetFlag(FLAGS_tokens_per_message));
  }
  if (line.Has("delta_interval_ms")) {
    output.set_delta_interval_ms(absl::GetFlag(FLAGS_delta_interval_ms));
  }
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const CommandLine& line) {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  BASED_RETURN_IF_ERROR(SetPrompt(line, request));
  if (line.Has("n")) request.set_n(absl::GetFlag(FLAGS_n));
  if (line.Has("best_of")) request.set_best_of(absl::GetFlag(FLAGS_best_of));
  BASED_RETURN_IF_ERROR(SetSampling(line, *request.mutable_sampling()));
  BASED_RETURN_IF_ERROR(SetStop(line, *request.mutable_stop()));
  SetOutput(line, *request.mutable_output());
  return request;
}

Command GenerateCommand() {
  return {.name = "generate",
          .summary = "Streams one completion to the terminal.",
          .examples =
              "  based generate --prompt 'It was a dark night' --max_tokens 100\n"
              "  based generate --prompt_file letter.txt --temperature 0.8 --top_p 0.95\n"
              "  echo 'Once upon a time' | based generate --stop . --stop '!' --seed 7\n"
              "  based generate --prompt Hello --n 4 --best_of 8 --max_tokens 20\n"
              "  based generate --prompt Hello --logprobs --top_logprobs 5 --json\n",
          .flags = {{"Prompt", {"prompt", "prompt_file", "prompt_token_ids", "model"}},
                    {"Sampling",
                     {"temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
                      "presence_penalty", "frequency_penalty", "logit_bias", "bad_words",
                      "allowed_token_ids", "seed", "n", "best_of"}},
                    {"Stop",
                     {"max_tokens", "stop", "stop_token_ids", "ignore_eos", "min_tokens",
                      "include_stop"}},
                    {"Output",
                     {"token_ids", "logprobs", "top_logprobs", "echo", "prompt_logprobs",
                      "tokens_per_message", "delta_interval_ms", "json", "stats"}},
                    kDaemonFlags},
          .run = Generate};
}

}  // namespace based
