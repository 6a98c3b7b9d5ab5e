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


CAPACITY = ("based-capacity", "based: capacity", [
    ("Slots by state", "short", [(total("based_state_slots", "state"), "{{state}}")]),
    ("Slots in use", "percentunit", [
        (total("based_state_slots", "instance", 'state="active"') + " / " +
         total("based_state_slots", "instance"), "{{instance}}")]),
    ("Queued requests", "short", [(total("based_queued_requests", "instance"), "{{instance}}")]),
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
])

LATENCY = ("based-latency", "based: latency and objectives", [
    ("Time to first token", "s", quantiles("based_time_to_first_token_seconds")),
    ("Inter-token latency", "s", quantiles("based_inter_token_latency_seconds")),
    ("Whole request", "s", quantiles("based_e2e_request_seconds")),
    ("Wait for a slot", "s", quantiles("based_queue_seconds")),
    ("Prefill", "s", quantiles("based_prefill_seconds")),
    ("Means", "s", [(mean("based_time_to_first_token_seconds"), "first token"),
                    (mean("based_inter_token_latency_seconds"), "between tokens")]),
    ("Requests by ending", "reqps", [(rate("based_requests_total", "code, finish_reason"),
                                      "{{code}} {{finish_reason}}")]),
    ("Errors, share of requests", "percentunit", [
        ("based:errors:ratio_rate5m", "5 m"), ("based:errors:ratio_rate1h", "1 h"),
        ("based:errors:ratio_rate6h", "6 h")]),
    ("First tokens after 0.5 s, share", "percentunit", [
        ("based:slow_first_tokens:ratio_rate5m", "5 m"),
        ("based:slow_first_tokens:ratio_rate1h", "1 h")]),
    ("Burn rate of the error budget (1: lasts a month)", "short", [
        ("based:errors:ratio_rate1h / 0.005", "errors"),
        ("based:slow_first_tokens:ratio_rate1h / 0.01", "first tokens")]),
    ("Endings early, by cause", "reqps", [(rate("based_cancellations_total", "cause"),
                                           "{{cause}}")]),
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
    ("What runs", "short", [(total("based_build_info", "version, backend, model"),
                             "{{version}} {{backend}} {{model}}")]),
    ("Age of the process", "s", [
        (f"time() - {total('based_process_start_time_seconds', 'instance')}", "{{instance}}")]),
])

ALL = (CAPACITY, LATENCY, ENGINE)


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
