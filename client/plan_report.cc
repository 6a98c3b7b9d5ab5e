#include "client/plan_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench_plot.h"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kStyle[] =
    ":root{color-scheme:light dark}body{font:15px system-ui,sans-serif;max-width:62rem;margin:2rem "
    "auto;padding:0 1rem}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .7rem;"
    "text-align:right;border-bottom:1px solid #8884}td:first-child,th:first-child{text-align:left}"
    "svg{max-width:100%;height:auto;font:11px system-ui,sans-serif}svg "
    "text:not(.name){fill:currentColor}"
    "svg .title{font-weight:600;font-size:13px}svg .grid{stroke:#8883}pre{overflow-x:auto}";

double Mb(double bytes) { return bytes / 1e6; }
double Gb(double bytes) { return bytes / 1e9; }

std::string SlotText(const SlotBytes& slot) {
  return absl::StrFormat("%.3f MB: linear attention %.3f, window %.3f, convolutions %.3f",
                         Mb(static_cast<double>(slot.total())),
                         Mb(static_cast<double>(slot.taylor)), Mb(static_cast<double>(slot.window)),
                         Mb(static_cast<double>(slot.conv)));
}

std::string Notes(const PlanReport& plan) {
  std::string notes;
  if (!plan.machine.measured) {
    absl::StrAppend(&notes,
                    "note        shares of the limits are those measured on an H100; none "
                    "was measured on this GPU\n");
  }
  const int32_t features = plan.model.config.feature_dim;
  if (plan.machine.cuda && features == 8) {
    absl::StrAppend(&notes,
                    "note        shares of linear attention are those measured at "
                    "feature_dim 16\n");
  } else if (plan.machine.cuda && features != 16) {
    absl::StrAppend(&notes,
                    "note        the fast CUDA kernels are made for feature_dim 8 and 16; "
                    "the general ones are slower than this says\n");
  }
  if (plan.capacity.slots == 0) {
    absl::StrAppend(&notes, "note        the model does not fit: not one slot is left\n");
  } else if (plan.load.streams > static_cast<double>(plan.capacity.slots)) {
    absl::StrAppendFormat(&notes,
                          "note        of %.0f streams %d have a slot at a time: the load below is "
                          "theirs, the others wait\n",
                          plan.load.streams, plan.capacity.slots);
  }
  return notes;
}

std::string PointsText(const PlanReport& plan) {
  std::string text =
      absl::StrFormat("%8s %11s %11s %11s %11s %7s   KV cache: %10s %12s\n", "streams", "step ms",
                      "ITL ms", "tokens/s", "roofline", "of it", "at a time", "tokens/s");
  for (const PlanPoint& point : plan.points) {
    const LoadPrediction& based = point.based;
    absl::StrAppendFormat(&text, "%8.0f %11.3f %11.3f %11.0f %11.0f %6.0f%%   %20.0f %12.0f\n",
                          point.streams, 1e3 * based.step_seconds, 1e3 * based.itl_seconds,
                          based.tokens_per_second, based.roofline_tokens_per_second,
                          100 * based.tokens_per_second / based.roofline_tokens_per_second,
                          point.kv.at_sequences, point.kv.tokens_per_second);
  }
  absl::StrAppendFormat(
      &text,
      "roofline: tokens/s if memory or arithmetic alone bound a step; of it: the share predicted\n"
      "KV cache: the same shape with a cache of %.0f tokens a sequence; at a time: of the streams, "
      "as many as\n          fit where %d slots do, and into a step; the rest wait\n",
      plan.context, plan.capacity.slots);
  return text;
}

Json StepJson(const StepPrediction& step) {
  Json terms = Json::array();
  for (const PlanTerm& term : step.terms) {
    terms.push_back({{"name", term.name},
                     {"ops", term.ops},
                     {"bytes", term.bytes},
                     {"flops", term.flops},
                     {"seconds", term.seconds}});
  }
  return {{"seconds", step.seconds},
          {"roofline_seconds", step.roofline_seconds},
          {"terms", std::move(terms)}};
}

Json LoadJson(const LoadPrediction& load) {
  return {{"decode_rows", load.rows.decodes},
          {"prefill_rows", load.rows.prefill},
          {"step_seconds", load.step_seconds},
          {"itl_seconds", load.itl_seconds},
          {"tokens_per_second", load.tokens_per_second},
          {"prompt_tokens_per_second", load.prompt_tokens_per_second},
          {"roofline_tokens_per_second", load.roofline_tokens_per_second}};
}

Json KvJson(const KvEquivalent& kv) {
  return {{"bytes_per_token", kv.bytes_per_token},
          {"tokens_per_slot", kv.tokens_per_slot},
          {"sequences", kv.sequences},
          {"at_sequences", kv.at_sequences},
          {"tokens_per_second", kv.tokens_per_second}};
}

std::string Plots(const PlanReport& plan) {
  PlotLine predicted{.name = "predicted"}, roofline{.name = "roofline"}, cache{.name = "KV cache"};
  PlotLine itl{.name = "inter-token latency"};
  for (const PlanPoint& point : plan.points) {
    predicted.points.emplace_back(point.streams, point.based.tokens_per_second);
    roofline.points.emplace_back(point.streams, point.based.roofline_tokens_per_second);
    cache.points.emplace_back(point.streams, point.kv.tokens_per_second);
    itl.points.emplace_back(point.streams, 1e3 * point.based.itl_seconds);
  }
  PlotLine slots{.name = "constant state"}, fit{.name = "KV cache"};
  const auto pool = static_cast<double>(plan.capacity.slots * plan.capacity.slot.total());
  for (double context = 256; context <= 1 << 20; context *= 2) {
    slots.points.emplace_back(context, static_cast<double>(plan.capacity.slots));
    fit.points.emplace_back(context, pool / (plan.kv.bytes_per_token * context));
  }
  return absl::StrCat(PlotSvg({.title = "Generated tokens per second",
                               .x_label = "streams",
                               .y_label = "tokens/s",
                               .lines = {predicted, roofline, cache},
                               .log_x = true}),
                      PlotSvg({.title = "Inter-token latency",
                               .x_label = "streams",
                               .y_label = "milliseconds",
                               .lines = {itl},
                               .log_x = true}),
                      PlotSvg({.title = "Sequences that fit",
                               .x_label = "tokens of each",
                               .y_label = "sequences",
                               .lines = {slots, fit},
                               .log_x = true}));
}

}  // namespace

PlanReport MakePlan(PlanModel model, PlanMachine machine, PlanLoad load, double context) {
  PlanReport plan{.model = std::move(model), .machine = std::move(machine), .context = context};
  const Program& program = plan.model.program;
  plan.capacity = PlanCapacity(program, plan.machine);
  const auto slots = static_cast<double>(plan.capacity.slots);
  const double most = std::max(slots, 1.0);
  if (load.streams == 0) load.streams = most;
  plan.load = load;
  load.streams = std::min(load.streams, most);  // that have a slot
  plan.prefill_tokens_per_second = PredictPrefill(program, plan.machine);
  plan.at_load = PredictLoad(program, plan.machine, load);
  plan.step = PredictStep(program, plan.machine, plan.at_load.rows);
  plan.kv = PredictKv(program, plan.machine, slots, load.streams, context);
  for (double streams = 1; streams < 2 * most; streams *= 2) {
    const double at = std::min(streams, most);
    plan.points.push_back({.streams = at,
                           .based = PredictLoad(program, plan.machine, {at, load.prompt_share}),
                           .kv = PredictKv(program, plan.machine, slots, at, context)});
  }
  return plan;
}

std::string PlanText(const PlanReport& plan) {
  const PlanMachine& machine = plan.machine;
  const CapacityPlan& capacity = plan.capacity;
  std::string text = absl::StrFormat(
      "model       %s: %.1fM parameters, window %d, feature_dim %d\n"
      "machine     %s: reads %.4g GB/s, %.4g TFLOP/s, %.2f GB\n"
      "weights     %.3f GB, workspace %.3f GB\n"
      "slot        %s\n"
      "slots       %d\n"
      "KV cache    %.1f KB a token: a slot is as large as %.0f tokens; %.0f sequences of %.0f "
      "tokens fit where %d slots do\n"
      "prefill     %.0f tokens/s\n%s\n",
      plan.model.name, static_cast<double>(plan.model.parameters) / 1e6,
      plan.model.config.window_size, plan.model.config.feature_dim, machine.name,
      machine.BytesPerSecond(capacity.weight_bytes) / 1e9, machine.flops_per_second / 1e12,
      Gb(machine.memory_bytes), Gb(capacity.weight_bytes), Gb(capacity.workspace_bytes),
      SlotText(capacity.slot), capacity.slots, plan.kv.bytes_per_token / 1e3,
      plan.kv.tokens_per_slot, plan.kv.sequences, plan.context, capacity.slots,
      plan.prefill_tokens_per_second, Notes(plan));
  absl::StrAppend(&text, PointsText(plan));
  const LoadPrediction& load = plan.at_load;
  absl::StrAppendFormat(
      &text,
      "\nload        %.0f streams, %.0f%% of tokens are prompt: steps of %.0f decodes and %.0f "
      "prompt rows\n"
      "predicted   step %.3f ms, inter-token latency %.3f ms, %.0f generated and %.0f prompt "
      "tokens/s\n",
      plan.load.streams, 100 * plan.load.prompt_share, load.rows.decodes, load.rows.prefill,
      1e3 * load.step_seconds, 1e3 * load.itl_seconds, load.tokens_per_second,
      load.prompt_tokens_per_second);
  for (const PlanTerm& term : plan.step.terms) {
    absl::StrAppendFormat(&text, "  %-18s %9.3f ms %5.1f%%  %9.2f MB %9.2f GFLOP %5.0f ops\n",
                          term.name, 1e3 * term.seconds, 100 * term.seconds / plan.step.seconds,
                          Mb(term.bytes), term.flops / 1e9, term.ops);
  }
  return text;
}

nlohmann::ordered_json PlanJson(const PlanReport& plan) {
  const CapacityPlan& capacity = plan.capacity;
  Json reads = Json::array();
  for (const ReadSpeed& read : plan.machine.reads) {
    reads.push_back(
        {{"working_set", read.working_set}, {"bytes_per_second", read.bytes_per_second}});
  }
  Json points = Json::array();
  for (const PlanPoint& point : plan.points) {
    points.push_back(
        {{"streams", point.streams}, {"based", LoadJson(point.based)}, {"kv", KvJson(point.kv)}});
  }
  return {{"model",
           {{"name", plan.model.name},
            {"parameters", plan.model.parameters},
            {"window_size", plan.model.config.window_size},
            {"feature_dim", plan.model.config.feature_dim}}},
          {"machine",
           {{"name", plan.machine.name},
            {"measured", plan.machine.measured},
            {"memory_bytes", plan.machine.memory_bytes},
            {"bytes_per_second", plan.machine.BytesPerSecond(capacity.weight_bytes)},
            {"reads", std::move(reads)},
            {"flops_per_second", plan.machine.flops_per_second}}},
          {"slot_bytes",
           {{"total", capacity.slot.total()},
            {"linear_attention", capacity.slot.taylor},
            {"window", capacity.slot.window},
            {"convolutions", capacity.slot.conv}}},
          {"weight_bytes", capacity.weight_bytes},
          {"workspace_bytes", capacity.workspace_bytes},
          {"slots", capacity.slots},
          {"prefill_tokens_per_second", plan.prefill_tokens_per_second},
          {"load",
           {{"streams", plan.load.streams},
            {"prompt_share", plan.load.prompt_share},
            {"context", plan.context},
            {"based", LoadJson(plan.at_load)},
            {"step", StepJson(plan.step)},
            {"kv", KvJson(plan.kv)}}},
          {"points", std::move(points)}};
}

std::string PlanPage(const PlanReport& plan) {
  return absl::StrCat(
      "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
      "content='width=device-width, initial-scale=1'><title>based plan</title><style>",
      kStyle, "</style></head><body><h1>", HtmlEscape(plan.model.name), " on ",
      HtmlEscape(plan.machine.name), "</h1>", Plots(plan), "<pre>", HtmlEscape(PlanText(plan)),
      "</pre></body></html>\n");
}

}  // namespace based
