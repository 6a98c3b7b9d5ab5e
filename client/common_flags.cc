#include "client/common_flags.h"

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/command.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7433", "HOST:PORT of the daemon.");
ABSL_FLAG(double, timeout, 0, "Seconds until the call is given up; 0: none.");
ABSL_FLAG(bool, json, false,
          "Prints JSON, one message per line: the proto's fields by their names, 64-bit numbers as "
          "strings, bytes (stop_string) in base64.");
ABSL_FLAG(std::string, model, "",
          "generate, info, tokenize: name of the model at the daemon, empty for the one it serves. "
          "generate --local, perplexity, plan, verify: directory of config.json and "
          "model.safetensors; plan: also synthetic:NAME.");
ABSL_FLAG(std::string, tenant, "",
          "keygen: whose key it is; generate: whose quota counts; session, jobs: whose they are; "
          "empty: the default tenant.");
ABSL_FLAG(std::string, text, "", "Text: the prompt to continue, or what to tokenize.");
ABSL_FLAG(std::string, file, "", "File to read; - is standard input.");
ABSL_FLAG(std::string, tokenizer, "",
          "Directory of tokenizer.json (or vocab.json and merges.txt).");
ABSL_FLAG(std::string, backend, "auto", "auto, cpu, cuda or reference.");
ABSL_FLAG(int32_t, threads, 0, "CPU threads; 0: one per core.");
ABSL_FLAG(int32_t, device, 0, "Index of the CUDA device.");

namespace based {

absl::StatusOr<int32_t> ThreadsFromFlags() {
  const int32_t threads = absl::GetFlag(FLAGS_threads);
  if (threads >= 0) return threads;
  return UsageError(absl::StrCat("--threads is ", threads, "; expected 0 (one per core) or more"));
}

}  // namespace based
