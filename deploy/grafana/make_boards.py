#!/usr/bin/env python3
"""Writes boards/*.json for Grafana from the tables below.

    python3 deploy/grafana/make_boards.py [--check]

A panel is a title, a unit and queries with their legends. Rates are over $__rate_interval. A test
runs every query against a Prometheus that scrapes a live daemon, and fails when one is empty or when
the JSON is not what this script writes.
"""

import argparse
import json
import pathlib
import sys

BOARDS = pathlib.Path(__file__).resolve().parent / "boards"
FILTER = 'instance=~"$instance"'
QUANTILES = (0.5, 0.9, 0.99, 0.999)
INTERACTIVE = 'priority="interactive"'
BATCH = 'priority="batch"'


def quantiles(metric, labels=""):
    """Queries for the quantiles of a histogram, over all chosen instances."""
    selector = ",".join(part for part in (FILTER, labels) if part)
    return [(f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{selector}}}"
             f"[$__rate_interval])))", f"p{100 * q:g}") for q in QUANTILES]


def rate(metric, by, labels=""):
    selector = ",".join(part for part in (FILTER, labels) if part)
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def total(metric, by, labels=""):
    selector = ",".join(part for part in (FILTER, labels) if part)
    return f"sum by ({by}) ({metric}{{{selector}}})"


def mean(metric, labels=""):
    """The mean of what a histogram saw: a rate of sums is no latency without its count."""
    selector = ",".join(part for part in (FILTER, labels) if part)
    return (f"sum(rate({metric}_sum{{{selector}}}[$__rate_interval])) / "
            f"(sum(rate({metric}_count{{{selector}}}[$__rate_interval])) > 0)")


def per_token(metric):
    """What a counter gains while one token is generated."""
    return (f"sum(rate({metric}{{{FILTER}}}[$__rate_interval])) / "
            f"(sum(rate(based_generated_tokens_total{{{FILTER}}}[$__rate_interval])) > 0)")


def bad_share(window):
    """Share of requests that ended with an error of ours, as the rules count it for the fleet."""
    ended = f"based_requests_total{{{FILTER}"
    return (f'sum(rate({ended},code=~"INTERNAL|UNAVAILABLE"}}[{window}])) / '
            f"(sum(rate({ended}}}[{window}])) > 0)")


def late_share(window):
    """Share of first tokens beyond the objective, likewise."""
    chosen = f"{FILTER},{INTERACTIVE}"
    first = "based_time_to_first_token_seconds"
    return (f'1 - sum(rate({first}_bucket{{{chosen},le="0.5"}}[{window}])) / '
            f"(sum(rate({first}_count{{{chosen}}}[{window}])) > 0)")


CAPACITY = ("based-capacity", "based: capacity", [
    ("Slots by state", "short", [(total("based_state_slots", "state"), "{{state}}")]),
    ("Requests by what they do", "short", [(total("based_live_requests", "phase"), "{{phase}}")]),
    ("Slots in use", "percentunit", [
        (total("based_state_slots", "instance", 'state="active"') + " / " +
         total("based_state_slots", "instance"), "{{instance}}")]),
    ("Sequences that fit at once, and the wait of one more", "short", [
        (total("based_admission_headroom", "instance"), "{{instance}} free"),
        (total("based_predicted_wait_seconds", "instance"), "{{instance}} wait, s")]),
    ("Tokens per second, now and with all slots decoding", "short", [
        (rate("based_generated_tokens_total", "instance"), "{{instance}} now"),
        (total("based_sustainable_tokens_per_second", "instance"), "{{instance}} at most")]),
    ("Parked sequences", "short", [(total("based_parked_sequences", "instance"), "{{instance}}")]),
    ("States that make room, and come back", "short", [
        (rate("based_parks_total", "instance"), "{{instance}} parked/s"),
        (rate("based_resumes_total", "instance"), "{{instance}} resumed/s")]),
    ("Memory of parked states, share of its limit", "percentunit", [
        (total("based_park_bytes", "instance") + " / (" +
         total("based_park_limit_bytes", "instance") + " > 0)", "{{instance}}")]),
    ("Sessions", "short", [(total("based_sessions", "instance"), "{{instance}}")]),
    ("Memory of sessions, share of its limit", "percentunit", [
        (total("based_session_bytes", "instance") + " / (" +
         total("based_session_limit_bytes", "instance") + " > 0)", "{{instance}}")]),
    ("Sessions made, resumed and dropped", "short", [
        (rate("based_sessions_created_total", "instance"), "{{instance}} made"),
        (rate("based_session_resumes_total", "instance"), "{{instance}} resumed"),
        (rate("based_session_evictions_total", "cause"), "dropped: {{cause}}")]),
    ("Calls that ask for a session, by what they find", "reqps", [
        (rate("based_session_lookups_total", "result"), "{{result}}")]),
    ("Prompt tokens that sessions saved", "short", [
        (rate("based_session_reused_tokens_total", "instance"), "{{instance}} tokens/s")]),
    ("Queued requests", "short", [(total("based_queued_requests", "instance"), "{{instance}}")]),
    ("Queued tokens, at most", "short", [
        (total("based_queued_tokens", "instance"), "{{instance}}")]),
    ("Open streams", "short", [(total("based_streams_open", "instance"), "{{instance}}")]),
    ("Generated tokens", "short", [(rate("based_generated_tokens_total", "instance"),
                                    "{{instance}} tokens/s")]),
    ("Prompt tokens computed", "short", [(rate("based_prompt_tokens_total", "instance"),
                                          "{{instance}} tokens/s")]),
    ("Refusals by code", "reqps", [(rate("based_rejections_total", "code"), "{{code}}")]),
    ("Memory of the pool, weights and workspace", "bytes", [
        (total("based_state_pool_bytes", "instance"), "{{instance}} pool"),
        (total("based_weight_bytes", "instance"), "{{instance}} weights"),
        (total("based_workspace_bytes", "instance"), "{{instance}} workspace")]),
    ("Resident memory", "bytes", [
        (total("based_process_resident_memory_bytes", "instance"), "{{instance}}")]),
    ("Recomputed sequences (0 by construction)", "short", [
        (total("based_preemptions_total", "instance"), "{{instance}}")]),
    ("Batch jobs by state", "short", [(total("based_batch_jobs", "state"), "{{state}}")]),
    ("Lines of batch jobs", "short", [
        (total("based_batch_waiting_lines", "instance"), "{{instance}} waiting"),
        (total("based_batch_lines_in_flight", "instance"), "{{instance}} in the engine")]),
    ("Lines of batch jobs that ended", "short", [
        (rate("based_batch_lines_total", "outcome"), "{{outcome}}s/s"),
        (rate("based_batch_write_errors_total", "instance"), "{{instance}} failed writes/s")]),
    ("Disk of batch jobs, share of its limit", "percentunit", [
        (total("based_batch_disk_bytes", "instance") + " / (" +
         total("based_batch_disk_limit_bytes", "instance") + " > 0)", "{{instance}}")]),
])

LATENCY = ("based-latency", "based: latency and objectives", [
    ("Time to first token, interactive", "s",
     quantiles("based_time_to_first_token_seconds", INTERACTIVE)),
    ("Inter-token latency, interactive", "s",
     quantiles("based_inter_token_latency_seconds", INTERACTIVE)),
    ("Time to first token, batch work", "s",
     quantiles("based_time_to_first_token_seconds", BATCH)),
    ("Inter-token latency, batch work", "s",
     quantiles("based_inter_token_latency_seconds", BATCH)),
    ("Whole request, interactive", "s", quantiles("based_e2e_request_seconds", INTERACTIVE)),
    ("Wait for a slot, interactive", "s", quantiles("based_queue_seconds", INTERACTIVE)),
    ("Prefill, interactive", "s", quantiles("based_prefill_seconds", INTERACTIVE)),
    ("Decode, interactive", "s", quantiles("based_decode_seconds", INTERACTIVE)),
    ("Prefill and decode, interactive", "s", quantiles("based_inference_seconds", INTERACTIVE)),
    ("Time per output token, by request, interactive", "s",
     quantiles("based_time_per_output_token_seconds", INTERACTIVE)),
    ("Longest wait of a message for its reader", "s",
     quantiles("based_stream_write_stall_seconds")),
    ("Means, interactive", "s", [
        (mean("based_time_to_first_token_seconds", INTERACTIVE), "first token"),
        (mean("based_inter_token_latency_seconds", INTERACTIVE), "between tokens")]),
    ("Requests by ending", "reqps", [(rate("based_requests_total", "code, finish_reason"),
                                      "{{code}} {{finish_reason}}")]),
    ("Errors, share of requests", "percentunit", [
        (bad_share("5m"), "5 m"), (bad_share("1h"), "1 h"), (bad_share("6h"), "6 h")]),
    ("Interactive first tokens after 0.5 s, share", "percentunit", [
        (late_share("5m"), "5 m"), (late_share("1h"), "1 h")]),
    ("Burn rate of the error budget (1: lasts a month)", "short", [
        (f"({bad_share('1h')}) / 0.005", "errors"),
        (f"({late_share('1h')}) / 0.01", "first tokens")]),
    ("Endings early, by cause", "reqps", [
        (rate("based_cancellations_total", "cause"), "{{cause}}"),
        (rate("based_nonfinite_requests_total", "instance"), "{{instance}} NaN or infinite")]),
])

ENGINE = ("based-engine", "based: engine", [
    ("Step time", "s", quantiles("based_step_seconds")),
    ("Host time of a step", "s", quantiles("based_step_host_seconds")),
    ("Steps", "short", [(rate("based_step_seconds_count", "instance"), "{{instance}} steps/s")]),
    ("Sequences in a step", "short", quantiles("based_batch_size")),
    ("Decode tokens in a step", "short", quantiles("based_step_tokens", 'phase="decode"')),
    ("Prefill tokens in a step", "short", quantiles("based_step_tokens", 'phase="prefill"')),
    ("Share of time in steps", "percentunit", [
        (rate("based_step_seconds_sum", "instance"), "{{instance}}")]),
    ("Time of the engine thread", "percentunit", [
        (rate("based_engine_seconds_total", "phase"), "{{phase}}")]),
    ("Steps by launch", "short", [(rate("based_steps_total", "launch"), "{{launch}} steps/s")]),
    ("Decodes of batch work left out for interactive work", "short", [
        (rate("based_batch_rows_deferred_total", "instance"), "{{instance}} rows/s")]),
    ("Rows computed in vain", "short", [
        (rate("based_padded_tokens_total", "instance"), "{{instance}} rows/s")]),
    ("Copies of a state", "s", quantiles("based_state_copy_seconds")),
    ("Prompt tokens of a request", "short", quantiles("based_request_prompt_tokens")),
    ("Prompt tokens of a request that its session held", "short",
     quantiles("based_request_reused_tokens")),
    ("Tokens generated by a request", "short", quantiles("based_request_generated_tokens")),
    ("Tokens and completions that a request asks for, means", "short", [
        (mean("based_request_max_tokens"), "max_tokens"),
        (mean("based_request_completions"), "n")]),
    ("Constraints of requests", "reqps", [
        (rate("based_constraints_total", "result"), "{{result}}")]),
    ("Compiling a constraint", "s", quantiles("based_constraint_compile_seconds")),
    ("Tokens that a constraint left no choice of, share", "percentunit", [
        (per_token("based_forced_tokens_total"), "forced")]),
    ("Answers over HTTP", "reqps", [(rate("based_http_responses_total", "code"), "{{code}}")]),
    ("Lag of the HTTP thread", "s", quantiles("based_http_loop_lag_seconds")),
    ("Cores in use", "short", [
        (rate("based_process_cpu_seconds_total", "instance"), "{{instance}}")]),
    ("Descriptors, share of those allowed", "percentunit", [
        (total("based_process_open_fds", "instance") + " / " +
         total("based_process_max_fds", "instance"), "{{instance}}")]),
    ("GPU: share of time with a kernel", "percentunit", [
        (total("based_gpu_busy_ratio", "instance, gpu"), "{{instance}} GPU {{gpu}}")]),
    ("GPU: memory", "bytes", [
        (total("based_gpu_memory_bytes", "instance, gpu, state"),
         "{{instance}} GPU {{gpu}} {{state}}")]),
    ("GPU: power, and what it may draw", "watt", [
        (total("based_gpu_power_watts", "instance, gpu"), "{{instance}} GPU {{gpu}}"),
        (total("based_gpu_power_limit_watts", "instance, gpu"),
         "{{instance}} GPU {{gpu}} at most")]),
    ("GPU: energy of a generated token", "joule", [
        (per_token("based_gpu_energy_joules_total"), "a token")]),
    ("Loading the model", "s", [(total("based_load_seconds", "instance, phase"),
                                 "{{instance}} {{phase}}")]),
    ("What runs", "short", [(total("based_build_info", "version, backend, model"),
                             "{{version}} {{backend}} {{model}}")]),
    ("Age of the process", "s", [
        (f"time() - {total('based_process_start_time_seconds', 'instance')}", "{{instance}}")]),
])

ADMITTED = 'result="admitted"'
REFUSED = 'result="refused"'

TENANTS = ("based-tenants", "based: tenants", [
    ("Requests, queued or running", "short", [
        (total("based_tenant_active_requests", "tenant"), "{{tenant}}")]),
    ("Tokens, prompt and output", "short", [
        (rate("based_tenant_tokens_total", "tenant"), "{{tenant}} tokens/s")]),
    ("Share of all tokens", "percentunit", [
        (rate("based_tenant_tokens_total", "tenant") + " / scalar(sum(rate("
         f"based_tenant_tokens_total{{{FILTER}}}[$__rate_interval])) > 0)", "{{tenant}}")]),
    ("Requests let in", "reqps", [
        (rate("based_tenant_requests_total", "tenant", ADMITTED), "{{tenant}}")]),
    ("Requests refused", "reqps", [
        (rate("based_tenant_requests_total", "tenant", REFUSED), "{{tenant}}")]),
    ("Refused, share of the tenant's requests", "percentunit", [
        (rate("based_tenant_requests_total", "tenant", REFUSED) + " / (" +
         rate("based_tenant_requests_total", "tenant") + " > 0)", "{{tenant}}")]),
    ("Tokens of a request, mean", "short", [
        (rate("based_tenant_tokens_total", "tenant") + " / (" +
         rate("based_tenant_requests_total", "tenant", ADMITTED) + " > 0)", "{{tenant}}")]),
    ("Refusals at a tenant's limit, by limit", "reqps", [
        (rate("based_rejections_total", "reason", 'reason=~"tenant_.*"'), "{{reason}}")]),
    ("The ten with most tokens", "short", [
        (f"topk(10, {rate('based_tenant_tokens_total', 'tenant')})", "{{tenant}} tokens/s")]),
])

ALL = (CAPACITY, LATENCY, ENGINE, TENANTS)


def panel(index, title, unit, queries):
    return {
        "id": index + 1, "type": "timeseries", "title": title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (index % 2), "y": 8 * (index // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend}
                    for i, (expr, legend) in enumerate(queries)],
    }


def board(uid, title, panels):
    return {
        "uid": uid, "title": title, "schemaVersion": 39, "version": 1, "editable": True,
        "tags": ["based-serve"], "refresh": "5s", "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [{
            "name": "instance", "type": "query", "includeAll": True, "multi": True,
            "current": {"text": "All", "value": "$__all"}, "refresh": 2,
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "query": {"query": "label_values(based_build_info, instance)", "refId": "instance"},
        }]},
        "panels": [panel(i, *entry) for i, entry in enumerate(panels)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the files are fresh")
    arguments = parser.parse_args()
    stale = []
    for entry in ALL:
        path = BOARDS / f"{entry[0]}.json"
        text = json.dumps(board(*entry), indent=1) + "\n"
        if arguments.check:
            if not path.exists() or path.read_text() != text:
                stale.append(path.name)
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"not what make_boards.py writes: {', '.join(stale)}; run it and commit")


if __name__ == "__main__":
    main()
