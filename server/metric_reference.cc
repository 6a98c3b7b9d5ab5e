#include "server/metric_reference.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/gpu_metrics.h"
#include "server/metrics.h"
#include "server/metrics_text.h"

namespace based {
namespace {

using prometheus::MetricFamily;

struct Note {
  const char* name;
  const char* unit;
  const char* action;  // what to do when it moves
};

// By name. One line for every series.
constexpr Note kNotes[] = {
    {"based_admission_headroom", "slots",
     "At 0 new requests wait. Add replicas, or look at who holds the slots (`/debug`)."},
    {"based_batch_disk_bytes", "bytes",
     "At `based_batch_disk_limit_bytes` jobs wait and new ones are refused: delete jobs, lower "
     "`--batch_keep_s` or raise `--batch_disk`."},
    {"based_batch_disk_limit_bytes", "bytes", "Constant: `--batch_disk`."},
    {"based_batch_jobs", "jobs",
     "`queued` without `running`: `based jobs list` says what they wait for (another model, the "
     "disk). `queued` growing: more work comes than interactive requests leave slots for."},
    {"based_batch_lines_in_flight", "lines",
     "Near the number of slots while jobs run; less when interactive requests take them."},
    {"based_batch_lines_total", "lines",
     "`error` grows: clients send lines that cannot run; the results say why."},
    {"based_batch_rows_deferred_total", "rows",
     "Moves while interactive requests run beside batch work, which is slower then; "
     "`--itl_target_ms` sets what it may take."},
    {"based_batch_size", "sequences",
     "Small while slots are in use: prompts are being fed, or streams have just ended. Compare "
     "with `based_state_slots`."},
    {"based_batch_waiting_lines", "lines",
     "Divided by the rate of `based_batch_lines_total`: the time until running jobs end."},
    {"based_batch_write_errors_total", "writes",
     "The disk of `--batch_dir` is full or fails. Nothing is lost; jobs go on when it has room."},
    {"based_build_info", "none",
     "Changes with a roll-out; join other series with it to compare versions."},
    {"based_cancellations_total", "requests",
     "`client`: readers leave; `deadline`: too slow for them, see queue and prefill; "
     "`slow_reader`: BasedSlowReaders in the runbook; `drain`: raise `--drain_timeout_ms`."},
    {"based_constraint_compile_seconds", "seconds",
     "Near 1 s: schemas at the limits of deploy/docs/structured_output.md. They take a core of the "
     "engine's meanwhile."},
    {"based_constraints_total", "requests",
     "`compiled` near `reused`: clients make their schemas anew for every call, and each is "
     "compiled. `refused`: the client is wrong, see the log."},
    {"based_decode_seconds", "seconds",
     "Rises with the length asked for; per token it is `based_time_per_output_token_seconds`."},
    {"based_e2e_request_seconds", "seconds",
     "Rises with the length asked for; else see which of queue, prefill and inter-token latency "
     "rose."},
    {"based_engine_seconds_total", "seconds",
     "`collect` is waiting for the device and should be nearly all. `plan` and `commit` growing: "
     "the host is the bottleneck."},
    {"based_forced_tokens_total", "tokens",
     "Its share of `based_generated_tokens_total` is what structured output saves in steps."},
    {"based_generated_tokens_total", "tokens",
     "Throughput. Falls with fewer requests or with longer steps: compare with "
     "`based_step_seconds`."},
    {"based_gpu_busy_ratio", "ratio",
     "Below 0.9 with all slots in use: the host does not keep up (`based_engine_seconds_total`), "
     "or another process shares the GPU."},
    {"based_gpu_energy_joules_total", "joules",
     "Divide by generated tokens for the energy of a token."},
    {"based_gpu_memory_bytes", "bytes",
     "`used` is constant after the start. Growth is another process."},
    {"based_gpu_power_limit_watts", "watts",
     "Constant unless somebody or the machine lowers it: steps become slower."},
    {"based_gpu_power_watts", "watts",
     "Far below `based_gpu_power_limit_watts` under full load: the GPU waits. At it: clocks fall."},
    {"based_http_loop_lag_seconds", "seconds",
     "Above 10 ms: the I/O thread is short of processor time; streams over HTTP stutter. Give the "
     "daemon cores."},
    {"based_http_responses_total", "responses",
     "`5xx` beyond draining: read the log's `http` lines. `4xx`: a client sends what is refused; "
     "the log says why."},
    {"based_inference_seconds", "seconds",
     "`based_e2e_request_seconds` without the queue: what a request takes of the machine."},
    {"based_inter_token_latency_seconds", "seconds",
     "p99 above p50: prompts share steps with decodes; `--itl_target_ms` bounds their part. Both "
     "up: more sequences in a step. `batch` is what interactive work leaves: see "
     "`based_batch_rows_deferred_total`."},
    {"based_live_requests", "requests",
     "Mostly `prefill`: prompts bound the machine. Mostly `queued`: BasedSlotsFull in the "
     "runbook."},
    {"based_load_seconds", "seconds",
     "Set once. `read` is the disk, `compile` the copy to the device. Longer than before: cold "
     "page cache or another device."},
    {"based_nonfinite_requests_total", "requests",
     "Stays 0. Else a checkpoint or a device computes garbage: run `based verify` on this machine, "
     "and see the GPU's error counters."},
    {"based_padded_tokens_total", "tokens",
     "More than a few percent of generated tokens: batch sizes lie just above a captured one. "
     "Harmless but for speed."},
    {"based_park_bytes", "bytes",
     "Near `based_park_limit_bytes`: once as many sequences are parked, no more make room for "
     "interactive work. Raise `--park_memory`."},
    {"based_park_limit_bytes", "bytes", "Constant: `--park_memory`."},
    {"based_parked_sequences", "sequences",
     "Batch work that has made room. Grows for minutes: too few slots for the interactive load."},
    {"based_parks_total", "sequences",
     "Each is one copy of a state. Many a second: interactive load comes in bursts; "
     "`--reserved_interactive_slots` keeps room."},
    {"based_predicted_wait_seconds", "seconds",
     "What an interactive request that came now would wait for a slot, behind all others: what "
     "runs "
     "and waits played forward over measured step cost. The autoscaler's signal: add replicas "
     "before it reaches clients' deadlines."},
    {"based_preemptions_total", "sequences", "Stays 0. Anything else is a bug: report it."},
    {"based_prefill_seconds", "seconds",
     "Rises with prompt length and with sharing a step; see "
     "`based_step_tokens{phase=\"prefill\"}`."},
    {"based_process_cpu_seconds_total", "seconds",
     "On a GPU host well under one core. More with the same load: profile the delivery threads."},
    {"based_process_max_fds", "descriptors",
     "Raise LimitNOFILE when `based_process_open_fds` comes near."},
    {"based_process_open_fds", "descriptors",
     "One per connection. Grows without traffic: clients that leave connections open."},
    {"based_process_resident_memory_bytes", "bytes",
     "Constant under constant load. Growth over days: report it with the load's kind."},
    {"based_process_start_time_seconds", "seconds since 1970",
     "Each change is a restart: BasedRestarting in the runbook."},
    {"based_prompt_tokens_total", "tokens",
     "Prompts fed. High against generated tokens: prefill bounds the machine; the planner's "
     "`--prompt_share` tells what is left."},
    {"based_queue_seconds", "seconds", "Above 0: no slot was free. BasedSlotsFull in the runbook."},
    {"based_queued_requests", "requests",
     "Grows: more load than slots. Refusals begin at `--max_queue`."},
    {"based_queued_tokens", "tokens", "Likewise; refusals begin at `--max_queue_tokens`."},
    {"based_rejections_total", "requests",
     "`queue_*`: overload, add replicas. `tenant_*`: one tenant's limit, by design. `deadline`: it "
     "could not be met. `request`, `credentials`: the client is wrong, see the log. `session`: it "
     "uses one twice at a time, or makes one that is there."},
    {"based_request_completions", "completions",
     "Each takes a slot, the prompt is computed once: plan capacity by completions."},
    {"based_request_generated_tokens", "tokens",
     "The mix of work has changed: plan capacity anew."},
    {"based_request_max_tokens", "tokens",
     "Far above what is generated: predicted waits and deadlines' refusals lean on the shares of "
     "it that were drawn lately; `--max_queue_tokens` counts what was asked for."},
    {"based_request_prompt_tokens", "tokens", "The mix of work has changed: plan capacity anew."},
    {"based_request_reused_tokens", "tokens",
     "0 for requests without a session. Falls: conversations are sent again instead of gone on "
     "with; see `based_session_lookups_total`."},
    {"based_requests_total", "requests",
     "UNAVAILABLE and INTERNAL are ours: BasedErrorBudgetBurn in the runbook. Other codes are the "
     "client's."},
    {"based_resumes_total", "sequences",
     "Follows `based_parks_total`. Stays behind for long: interactive load leaves no slot to batch "
     "work."},
    {"based_session_bytes", "bytes",
     "At `based_session_limit_bytes` every new session drops another: raise `--session_memory`."},
    {"based_session_evictions_total", "sessions",
     "`memory`: their owners will meet NOT_FOUND and send the conversation again; raise "
     "`--session_memory` or add replicas. `idle`: by design (`--session_idle_s`)."},
    {"based_session_limit_bytes", "bytes", "Constant: `--session_memory`."},
    {"based_session_lookups_total", "calls",
     "`miss`: sessions are dropped before they are gone on with, see "
     "`based_session_evictions_total`. `busy`: a client uses one twice at a time. `mismatch`: it "
     "has lost track of what the session holds."},
    {"based_session_resumes_total", "calls",
     "Falls against `based_sessions_created_total`: conversations end after one call, or are "
     "dropped between their calls."},
    {"based_session_reused_tokens_total", "tokens",
     "What sessions save: compare with `based_prompt_tokens_total`."},
    {"based_sessions", "sessions", "Follows the conversations of the last `--session_idle_s`."},
    {"based_sessions_created_total", "sessions",
     "Grows faster than users come: clients make sessions anew instead of going on."},
    {"based_state_copy_seconds", "seconds",
     "Slower than `based_state_slot_bytes` over the bus's speed: host memory is short or shared."},
    {"based_state_layout_info", "none",
     "Differs between replicas: states cannot be moved between them."},
    {"based_state_pool_bytes", "bytes", "Constant after the start."},
    {"based_state_slot_bytes", "bytes", "Constant after the start: what one more sequence costs."},
    {"based_state_slots", "slots",
     "`active` near the total: BasedSlotsFull in the runbook. The sum never changes."},
    {"based_step_host_seconds", "seconds",
     "Planning, launching and committing. Near `based_step_seconds`: the host is the bottleneck."},
    {"based_step_seconds", "seconds",
     "Launch to result. Up with equal `based_batch_size`: a slower device (clocks, another "
     "process)."},
    {"based_step_tokens", "tokens",
     "`prefill` takes what `decode` leaves of the budget; see `--token_budget` and "
     "`--itl_target_ms`."},
    {"based_steps_total", "steps",
     "`eager` on a GPU: steps with prefill. Eager alone: graphs are off."},
    {"based_stream_write_stall_seconds", "seconds",
     "Readers or the network are slow. Above `--write_timeout_ms` the stream is cut."},
    {"based_streams_open", "calls",
     "More than slots and queue together: readers that have not taken their last messages."},
    {"based_sustainable_tokens_per_second", "tokens per second",
     "Compare with the rate of `based_generated_tokens_total` for what is left. Falls: steps have "
     "become slower."},
    {"based_tenant_active_requests", "requests",
     "One tenant holds everything: give it a limit or others a weight (`--access_file`)."},
    {"based_tenant_requests_total", "requests",
     "`refused`: the tenant is at its limit. Raise it, or tell the tenant."},
    {"based_tenant_tokens_total", "tokens", "What to bill, and whose load has changed."},
    {"based_time_per_output_token_seconds", "seconds",
     "Per request, so long requests do not outweigh short ones; otherwise as inter-token latency."},
    {"based_time_to_first_token_seconds", "seconds",
     "BasedFirstTokenSlow in the runbook: queue or prefill."},
    {"based_weight_bytes", "bytes", "Constant after the start."},
    {"based_workspace_bytes", "bytes", "Constant after the start."},
};

// Labels whose values come from configuration, not from the program.
bool IsOpen(const std::string& label) {
  static const std::set<std::string> kOpen = {"version", "backend", "model",
                                              "layout",  "tenant",  "gpu"};
  return kOpen.count(label) > 0;
}

const Note* FindNote(const std::string& name) {
  const auto* found = std::find_if(std::begin(kNotes), std::end(kNotes),
                                   [&](const Note& note) { return name == note.name; });
  return found == std::end(kNotes) ? nullptr : found;
}

// "`phase`: decode, prefill; `tenant`", or nothing.
std::string LabelsOf(const MetricFamily& family) {
  std::map<std::string, std::set<std::string>> values;
  for (const prometheus::ClientMetric& metric : family.metric) {
    for (const auto& label : metric.label) values[label.name].insert(label.value);
  }
  std::vector<std::string> parts;
  for (const auto& [name, all] : values) {
    parts.push_back(IsOpen(name) ? absl::StrCat("`", name, "`")
                                 : absl::StrCat("`", name, "`: ", absl::StrJoin(all, ", ")));
  }
  return absl::StrJoin(parts, "; ");
}

std::string Entry(const MetricFamily& family) {
  const Note* note = FindNote(family.name);
  const std::string labels = LabelsOf(family);
  return absl::StrCat("### ", family.name, "\n", MetricTypeName(family.type), ", ",
                      note != nullptr ? note->unit : "", labels.empty() ? "" : "; labels ", labels,
                      "\n\n", family.help, ".\n\n*When it moves:* ",
                      note != nullptr ? note->action : "", "\n\n");
}

}  // namespace

std::vector<MetricFamily> DocumentedFamilies() {
  Metrics metrics;
  metrics.SetBuildInfo("BACKEND", "MODEL");
  metrics.SetStateLayout("LAYOUT");
  metrics.SetTenants({{.name = "TENANT"}});
  std::vector<MetricFamily> families = metrics.Families();
  // As on a machine with a GPU, on any machine.
  std::erase_if(families, [](const MetricFamily& family) {
    return absl::StartsWith(family.name, "based_gpu_");
  });
  prometheus::Registry gpus;
  AddGpuSeries(gpus, "0");
  for (MetricFamily& family : gpus.Collect()) families.push_back(std::move(family));
  std::sort(families.begin(), families.end(),
            [](const MetricFamily& a, const MetricFamily& b) { return a.name < b.name; });
  return families;
}

ReferenceFaults CheckReference(const std::vector<MetricFamily>& families) {
  ReferenceFaults faults;
  std::set<std::string> names;
  for (const MetricFamily& family : families) {
    names.insert(family.name);
    if (FindNote(family.name) == nullptr) faults.undocumented.push_back(family.name);
  }
  for (const Note& note : kNotes) {
    if (names.count(note.name) == 0) faults.gone.emplace_back(note.name);
  }
  return faults;
}

std::string MetricsReference(const std::vector<MetricFamily>& families) {
  std::string page =
      "# Metrics\n\nWritten by `based-server --print_metrics_reference`; a test fails when this "
      "page "
      "is not what it\nprints. Series are served at `/metrics` on `--metrics_listen`, in base "
      "units; "
      "histograms of seconds\nbegin at 100 microseconds. Every label has a bounded set of values: "
      "those named here, or one per\nconfigured tenant, model or GPU. All series exist from the "
      "start, at 0, but those of GPUs, which need\nthe NVIDIA driver. Durations are taken from the "
      "steady clock: a wall clock that jumps moves none.\nAlerts: [runbook.md](runbook.md).\n\n";
  for (const MetricFamily& family : families) page += Entry(family);
  page.pop_back();
  return page;
}

}  // namespace based
