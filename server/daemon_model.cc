#include "server/daemon_model.h"

#include <filesystem>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/model.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"
#include "server/log.h"
#include "server/version.h"

namespace based {

absl::StatusOr<std::string> FindModelDir(const std::string& model_dir) {
  if (!model_dir.empty()) return model_dir;
  std::error_code error;
  const std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const char* relative :
       {"models/demo", "../share/based/models/demo", "../../models/demo", "../../../models/demo"}) {
    const std::filesystem::path candidate = (binary.parent_path() / relative).lexically_normal();
    if (std::filesystem::exists(candidate / "config.json", error)) return candidate.string();
  }
  return absl::NotFoundError(
      "no --model is given and the demo model is not beside this program; start with --model DIR, "
      "where DIR holds config.json and model.safetensors");
}

namespace {

// Messages and metrics carry the name as text: one byte that is none makes a scrape unreadable.
absl::Status CheckName(const std::string& name) {
  if (FindInvalidUtf8(name) == std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the model's name is '", absl::CHexEscape(name),
                   "'; expected UTF-8: give another with --model_name"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadServedModel(const DaemonOptions& options,
                                                       Backend& backend) {
  ModelOptions model_options;
  BASED_ASSIGN_OR_RETURN(model_options.model_dir, FindModelDir(options.model_dir));
  model_options.tokenizer_dir = options.tokenizer_dir;
  model_options.name = options.model_name;
  BASED_RETURN_IF_ERROR(CheckName(ModelName(model_options)));
  model_options.compile = backend.DefaultOptions();
  if (options.engine.token_budget > 0) {
    model_options.compile.max_rows = options.engine.token_budget;
  }
  if (options.max_batch > 0) {
    model_options.compile.max_spans = model_options.compile.max_samples = options.max_batch;
  }
  return LoadModel(model_options, backend);
}

void LogReady(const Engine& engine, const Addresses& addresses, double load_seconds) {
  const Model& model = engine.model();
  const ExecutableInfo& info = model.executable->info();
  const Capacity capacity = engine.capacity();
  for (const std::string& warning : model.config.warnings) {
    Log(LogLevel::kWarning, "model", {{"message", absl::string_view(warning)}});
  }
  Log(LogLevel::kInfo, "ready",
      {{"version", absl::string_view(kVersion)},
       {"model", absl::string_view(model.name)},
       {"parameters", model.checkpoint.parameters},
       {"tokenizer", model.tokenizer != nullptr},
       {"backend", absl::string_view(info.backend)},
       {"device", absl::string_view(info.device)},
       {"slots", int64_t{capacity.slots_total}},
       {"slot_bytes", capacity.slot_bytes},
       {"pool_bytes", capacity.pool_bytes},
       {"weight_bytes", capacity.weight_bytes},
       {"workspace_bytes", capacity.workspace_bytes},
       {"token_budget", int64_t{capacity.token_budget}},
       {"grpc", absl::string_view(addresses.grpc)},
       {"http", absl::string_view(addresses.http)},
       {"metrics", absl::string_view(addresses.metrics)},
       {"admin", absl::string_view(addresses.admin)},
       {"read_s", model.read_seconds},
       {"compile_s", model.compile_seconds},
       {"load_s", load_seconds}});
}

}  // namespace based
