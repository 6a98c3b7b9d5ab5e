// based info: what the daemon serves, and how much of it fits.
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "based/v1/model.grpc.pb.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "kernels/base/status.h"

namespace based {
namespace {

void Row(absl::string_view name, const std::string& value) {
  std::printf("%-18s %s\n", std::string(name).c_str(), value.c_str());
}

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%d bytes (%.2f MiB)", bytes, static_cast<double>(bytes) / (1 << 20));
}

void PrintModel(const v1::GetModelResponse& model) {
  std::vector<std::string> layers;
  for (int layer : model.layers()) {
    const std::string name = v1::Mixer_Name(static_cast<v1::Mixer>(layer));
    layers.push_back(absl::AsciiStrToLower(absl::StripPrefix(name, "MIXER_")));
  }
  Row("model", model.name());
  Row("digest", model.digest());
  Row("parameters", absl::StrCat(model.parameters()));
  Row("d_model", absl::StrCat(model.d_model()));
  Row("layers", absl::StrCat(layers.size(), ": ", absl::StrJoin(layers, " ")));
  Row("vocabulary", absl::StrCat(model.vocab_size()));
  Row("feature_dim", absl::StrCat(model.feature_dim()));
  Row("window_size", absl::StrCat(model.window_size()));
  Row("tokenizer", model.has_tokenizer() ? "yes" : "no, token ids only");
  Row("backend", absl::StrCat(model.backend(), ", ", model.device()));
  Row("server", model.server_version());
}

void PrintCapacity(const v1::GetCapacityResponse& capacity) {
  Row("slots", absl::StrCat(capacity.slots_total(), ", ", capacity.slots_active(), " active, ",
                            capacity.slots_free(), " free"));
  Row("bytes per sequence", Mebibytes(capacity.slot_bytes()));
  Row("state pool", Mebibytes(capacity.pool_bytes()));
  Row("weights", Mebibytes(capacity.weight_bytes()));
  Row("workspace", Mebibytes(capacity.workspace_bytes()));
  Row("queue", absl::StrCat(capacity.queued_requests(), " of ", capacity.max_queue()));
  Row("token budget", absl::StrCat(capacity.token_budget(), " per step"));
  Row("prompt limit", absl::StrCat(capacity.max_prompt_tokens(), " tokens"));
  Row("output limit", absl::StrCat(capacity.max_output_tokens(), " tokens"));
}

absl::Status Info(const CommandLine&) {
  const auto stub = v1::ModelService::NewStub(DaemonChannel());
  v1::GetModelRequest model_request;
  model_request.set_model(absl::GetFlag(FLAGS_model));
  v1::GetModelResponse model;
  grpc::ClientContext model_context;
  SetDeadline(model_context);
  BASED_RETURN_IF_ERROR(FromGrpc(stub->GetModel(&model_context, model_request, &model)));

  v1::GetCapacityRequest capacity_request;
  capacity_request.set_model(absl::GetFlag(FLAGS_model));
  v1::GetCapacityResponse capacity;
  grpc::ClientContext capacity_context;
  SetDeadline(capacity_context);
  BASED_RETURN_IF_ERROR(
      FromGrpc(stub->GetCapacity(&capacity_context, capacity_request, &capacity)));

  if (absl::GetFlag(FLAGS_json)) {
    std::printf("{\"model\":%s,\"capacity\":%s}\n", ToJson(model).c_str(),
                ToJson(capacity).c_str());
  } else {
    PrintModel(model);
    PrintCapacity(capacity);
  }
  return absl::OkStatus();
}

}  // namespace

Command InfoCommand() {
  return {.name = "info",
          .summary = "Shows the daemon's model, slots and capacity.",
          .examples = "  based info\n  based info --json --address 10.0.0.7:7433\n",
          .flags = {{"Output", {"json"}}, {"Model", {"model"}}, kDaemonFlags},
          .run = Info};
}

}  // namespace based
