#include "client/local.h"

#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/common_flags.h"
#include "engine/tokenizer.h"
#include "kernels/base/status.h"

namespace based {

absl::StatusOr<LocalModel> LoadLocalModel(const BackendFactory& new_backend,
                                          const CompileOptions& compile) {
  if (absl::GetFlag(FLAGS_model).empty()) return UsageError("--model DIR is needed");
  LocalModel local;
  BASED_ASSIGN_OR_RETURN(const int32_t threads, ThreadsFromFlags());
  BASED_ASSIGN_OR_RETURN(local.backend, new_backend(absl::GetFlag(FLAGS_backend), threads,
                                                    absl::GetFlag(FLAGS_device)));
  BASED_ASSIGN_OR_RETURN(local.model, LoadModel({.model_dir = absl::GetFlag(FLAGS_model),
                                                 .tokenizer_dir = absl::GetFlag(FLAGS_tokenizer),
                                                 .name = "",
                                                 .compile = compile},
                                                *local.backend));
  return local;
}

absl::Status TokenizeHere(const std::string& text) {
  BASED_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(absl::GetFlag(FLAGS_tokenizer)));
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer->Encode(text));
  const std::string joined = absl::StrJoin(ids, ",");
  if (absl::GetFlag(FLAGS_json)) {
    std::printf("{\"ids\":[%s]}\n", joined.c_str());
  } else {
    std::printf("%s\n", joined.c_str());
  }
  return absl::OkStatus();
}

absl::Status DetokenizeHere(const std::vector<int32_t>& ids) {
  BASED_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(absl::GetFlag(FLAGS_tokenizer)));
  Utf8Stream utf8;
  std::string text;
  for (int32_t id : ids) {
    if (id < 0 || id >= tokenizer->size()) {
      return UsageError(
          absl::StrCat("--ids holds ", id, "; expected ids in [0, ", tokenizer->size(), ")"));
    }
    text += utf8.Push(tokenizer->Bytes(id, true));
  }
  text += utf8.Finish();
  std::printf("%s\n", text.c_str());
  return absl::OkStatus();
}

}  // namespace based
