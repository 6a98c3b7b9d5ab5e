"""What deploy/ ships: manifests against Kubernetes' schemas, Prometheus rules, Grafana's queries
against a real Prometheus that scrapes a live daemon, the systemd unit, client-side balancing."""

import copy
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import grpc
import jsonschema
import pytest
import yaml

from conftest import BIN, DEMO, ROOT, TINY, run_based, run_server

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# Kinds of the Prometheus operator, whose schemas the validator does not bring.
FOREIGN_KINDS = {"PodMonitor": json.loads(
    (pathlib.Path(__file__).parent / "pod_monitor_schema.json").read_text())}


def need(program):
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def validate(documents):
    import kubernetes_validate

    seen = set()
    for document in documents:
        if document["kind"] in FOREIGN_KINDS:
            jsonschema.validate(document, FOREIGN_KINDS[document["kind"]])
        else:
            kubernetes_validate.validate(document, "1.30", strict=True)
        seen.add(document["kind"])
    return seen


@pytest.mark.parametrize("overlay, kinds", [
    ("base", {"Namespace", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}),
    ("gpu", {"Deployment", "Service"}),
    ("autoscaling", {"HorizontalPodAutoscaler", "PodMonitor", "Deployment"}),
    ("batch", {"Job", "StatefulSet", "Service", "NetworkPolicy"}),
])
def test_overlays_render_to_valid_manifests(overlay, kinds):
    rendered = subprocess.run([need("kubectl"), "kustomize", KUBERNETES / overlay],
                              capture_output=True, text=True)
    # Debian 12's knows neither folders as resources nor patches with a target.
    if "must be a file" in rendered.stderr or "Kustomization.patches" in rendered.stderr:
        pytest.skip("this kubectl's kustomize is older than 3.0")
    assert rendered.returncode == 0, rendered.stderr
    assert kinds <= validate(yaml.safe_load_all(rendered.stdout))


def test_manifests_are_valid():
    files = [path for folder in ("base", "autoscaling", "batch")
             for path in sorted((KUBERNETES / folder).glob("*.yaml"))
             if path.name not in ("kustomization.yaml", "adapter-rules.yaml")]
    kinds = set()
    for path in files:
        kinds |= validate(yaml.safe_load_all(path.read_text()))
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodMonitor"} <= kinds


def test_overlays_name_what_exists():
    """What kubectl would say, where it is missing or too old to render an overlay."""
    base = documents("base", "deployment.yaml")[0]
    for path in sorted(KUBERNETES.glob("*/kustomization.yaml")):
        overlay = yaml.safe_load(path.read_text())
        for resource in overlay["resources"]:
            assert (path.parent / resource).exists(), (path, resource)
        for entry in overlay.get("patches", []):
            assert entry["target"] == {"kind": base["kind"], "name": base["metadata"]["name"]}
            patch = yaml.safe_load((path.parent / entry["path"]).read_text())
            names = [{container["name"] for container in
                      document["spec"]["template"]["spec"]["containers"]}
                     for document in (base, patch)]
            assert names[1] <= names[0], "a patch that adds a container instead of changing one"
        images = {container["image"].partition(":")[0]
                  for container in base["spec"]["template"]["spec"]["containers"]}
        assert {image["name"] for image in overlay.get("images", [])} <= images, path


def test_the_schemas_refuse_a_wrong_field():
    document = yaml.safe_load((KUBERNETES / "base" / "deployment.yaml").read_text())
    document["spec"]["replicas"] = "two"
    with pytest.raises(Exception, match="two"):
        validate([document])


@pytest.mark.parametrize("path, value", [
    (("apiVersion",), "monitoring.coreos.com/v1alpha1"),
    (("metadata", "name"), "Based_Server"),
    (("spec", "podMetricsEndpoint"), []),
    (("spec", "podMetricsEndpoints"), []),
    (("spec", "selector", "matchLabels", "app.kubernetes.io/name"), 7),
    (("spec", "podMetricsEndpoints", 0, "port"), 7490),
    (("spec", "podMetricsEndpoints", 0, "interval"), "5 seconds"),
    (("spec", "podMetricsEndpoints", 0, "relabelings", 0, "target_label"), "job"),
])
def test_the_schema_of_a_pod_monitor_refuses(path, value):
    document = copy.deepcopy(documents("autoscaling", "pod-monitor.yaml")[0])
    validate([document])
    level = document
    for step in path[:-1]:
        level = level[step]
    level[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate([document])


def test_selectors_and_ports_fit_together():
    deployment = yaml.safe_load((KUBERNETES / "base" / "deployment.yaml").read_text())
    pod = deployment["spec"]["template"]
    names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    for service in yaml.safe_load_all((KUBERNETES / "base" / "service.yaml").read_text()):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    arguments = dict(argument.lstrip("-").partition("=")[::2]
                     for argument in pod["spec"]["containers"][0]["args"])
    drain_s = int(arguments["drain_timeout_ms"]) / 1000
    assert drain_s < pod["spec"]["terminationGracePeriodSeconds"]


def documents(*parts):
    return list(yaml.safe_load_all((KUBERNETES.joinpath(*parts)).read_text()))


def pod_specs():
    for folder, name in (("base", "deployment.yaml"), ("batch", "stateful-set.yaml"),
                         ("batch", "job.yaml")):
        for document in documents(folder, name):
            if document["kind"] in ("Deployment", "StatefulSet", "Job"):
                yield document["kind"], document["spec"]["template"]


def test_pods_keep_to_the_restricted_standard():
    """The namespace enforces it: a pod that asks for more is never made."""
    seen = set()
    for kind, pod in pod_specs():
        seen.add(kind)
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, kind
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", kind
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]}}, kind
    assert seen == {"Deployment", "StatefulSet", "Job"}
    enforced = documents("base", "namespace.yaml")[0]["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"


def test_flags_of_the_manifests_are_flags_of_the_daemon():
    help_text = run_server("--help").stdout
    for kind, pod in pod_specs():
        for argument in pod["spec"]["containers"][0].get("args", []):
            flag = argument.lstrip("-").partition("=")[0]
            assert re.search(rf"--{flag}\b", help_text), (kind, argument)


def test_a_batch_has_a_daemon_for_every_part():
    stateful = {document["kind"]: document for document in documents("batch", "stateful-set.yaml")}
    job = documents("batch", "job.yaml")[0]["spec"]
    command = job["template"]["spec"]["containers"][0]["command"]
    parts = job["completions"]
    assert job["parallelism"] == parts == stateful["StatefulSet"]["spec"]["replicas"]
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{parts}" in command
    name, service = (stateful["StatefulSet"]["metadata"]["name"],
                     stateful["StatefulSet"]["spec"]["serviceName"])
    assert service == stateful["Service"]["metadata"]["name"]
    assert f"--address={name}-$(JOB_COMPLETION_INDEX).{service}:7433" in command
    wanted = stateful["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert wanted.items() <= job["template"]["metadata"]["labels"].items()


def test_the_autoscaler_reads_what_the_adapter_makes_of_series_that_exist():
    scaler = documents("autoscaling", "autoscaler.yaml")[0]["spec"]
    rules = documents("autoscaling", "adapter-rules.yaml")[0]["rules"]
    made = {rule["name"]["as"] for rule in rules}
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} == made
    documented = set(re.findall(r"^### (\w+)$", (DEPLOY / "docs" / "metrics.md").read_text(), re.M))
    for rule in rules:
        for series in re.findall(r"\bbased_\w+", rule["seriesQuery"] + rule["metricsQuery"]):
            assert series in documented, series


def test_every_daemon_is_scraped_under_a_name_that_the_alerts_know():
    rules = (DEPLOY / "prometheus" / "rules.yml").read_text()
    known = re.search(r'up\{job=~"([^"]+)"\} == 0', rules).group(1).split("|")
    monitors = [document["spec"] for document in documents("autoscaling", "pod-monitor.yaml")]
    daemons = {kind: pod for kind, pod in pod_specs() if kind != "Job"}
    assert set(daemons) == {"Deployment", "StatefulSet"}
    for kind, pod in daemons.items():
        labels = pod["metadata"]["labels"].items()
        monitor, = [spec for spec in monitors if spec["selector"]["matchLabels"].items() <= labels]
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for endpoint in monitor["podMetricsEndpoints"]:
            assert endpoint["port"] in ports, kind
            assert endpoint["relabelings"][0]["targetLabel"] == "job"
            assert endpoint["relabelings"][0]["replacement"] in known
    # And may be: each has a policy that lets Prometheus' namespace in.
    prometheus = {"kubernetes.io/metadata.name": "monitoring"}
    for folder, name in (("base", "network-policy.yaml"), ("batch", "stateful-set.yaml")):
        policy, = [d["spec"] for d in documents(folder, name) if d["kind"] == "NetworkPolicy"]
        assert any({"port": "metrics"} in rule["ports"] and
                   rule["from"][0]["namespaceSelector"]["matchLabels"] == prometheus
                   for rule in policy["ingress"] if "namespaceSelector" in rule["from"][0]), folder


def test_series_of_boards_and_rules_are_documented():
    documented = set(re.findall(r"^### (\w+)$", (DEPLOY / "docs" / "metrics.md").read_text(), re.M))
    texts = [expression for _, expression in board_queries()]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    texts += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for text in texts:
        for name in re.findall(r"\bbased_\w+", text):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in documented or base in documented, name


def test_compose_and_image_name_what_exists():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    image = (ROOT / "Dockerfile").read_text()
    for needed in ("USER 10001:10001", "HEALTHCHECK", "ARG VARIANT=cpu", "AS build-cuda",
                   "bash deploy/bundle.sh", "STOPSIGNAL SIGTERM"):
        assert needed in image, needed
    for source in re.findall(r"^COPY (?!--from)(\S+) ", image, re.M):
        assert (ROOT / source).exists(), source
    flags = re.findall(r'"--([a-z_]+)', image)
    help_text = run_server("--help").stdout + run_based("info", "--help").stdout
    for flag in flags:
        assert re.search(rf"--{flag}\b", help_text), flag
    assert compose["services"]["based"]["read_only"] is True
    grafana = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "dashboards" / "boards.yaml").read_text())
    assert grafana["providers"][0]["options"]["path"] in str(compose["services"]["grafana"])


def test_prometheus_rules():
    promtool = need("promtool")
    for command in (["check", "rules", "rules.yml"], ["check", "config", "prometheus.yml"],
                    ["test", "rules", "rules_test.yml"]):
        run = subprocess.run([promtool, *command], cwd=DEPLOY / "prometheus", capture_output=True,
                             text=True)
        assert run.returncode == 0, run.stdout + run.stderr


def test_metrics_pass_prometheus_own_lint(tiny):
    run = subprocess.run([need("promtool"), "check", "metrics"], input=tiny.get("/metrics"),
                         capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stdout + run.stderr


def test_every_rule_has_its_test_and_every_alert_its_page():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", [])
             if case.get("exp_alerts")}
    evaluated = " ".join(case["expr"] for test in tests for case in test.get("promql_expr_test", [])
                         if case.get("exp_samples"))
    records = [rule["record"] for group in rules["groups"] for rule in group["rules"]
               if "record" in rule]
    untested = [name for name in records if not re.search(rf"{name}(?!\w)", evaluated)]
    assert records and not untested, untested
    headings = re.findall(r"^## (\w+)$", (DEPLOY / "docs" / "runbook.md").read_text(), re.M)
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    for rule in alerts:
        assert rule["alert"] in fired, rule["alert"]
        page = rule["annotations"]["runbook"]
        assert page == f"deploy/docs/runbook.md#{rule['alert'].lower()}"
    assert sorted(headings) == sorted(rule["alert"] for rule in alerts)


def test_systemd_unit():
    analyze = need("systemd-analyze")
    unit = DEPLOY / "systemd" / "based-server.service"
    run = subprocess.run([analyze, "security", "--offline=true", "--threshold=25", unit],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-500:]
    run = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    wrong = [line for line in run.stderr.splitlines()
             if line.startswith(str(unit)) or "is not executable" not in line]
    assert not wrong, wrong
    # What a restart does not mend is not tried again.
    kept, = re.findall(r"^RestartPreventExitStatus=(\d+)$", unit.read_text(), re.M)
    assert run_server("--slots=many").returncode == int(kept)
    assert run_server("--model=/nonexistent", "--listen=127.0.0.1:0",
                      "--metrics_listen=").returncode != int(kept)


def test_boards_are_what_the_script_writes():
    subprocess.run([sys.executable, DEPLOY / "grafana" / "make_boards.py", "--check"], check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """A real Prometheus that scrapes `target` every second with the rules that we ship."""

    def __init__(self, folder, target):
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.address = f"127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            [need("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self.address}"],
            stderr=subprocess.DEVNULL)

    def query(self, expression):
        return self.get("query", query=expression)["result"]

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def wait_for(self, expression, limit_s=60):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                result = self.query(expression)
                if result:
                    return result
            except OSError:
                assert self.process.poll() is None, "prometheus ended"
            time.sleep(0.5)
        pytest.fail(f"no result within {limit_s} s: {expression}")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def board_queries():
    for path in sorted((DEPLOY / "grafana" / "boards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']} [{target['legendFormat']}]", target["expr"]


def board_variables():
    """(board, series, label) of every variable: label_values(series, label)."""
    for path in sorted((DEPLOY / "grafana" / "boards").glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            query = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert query, (path.name, variable["query"])
            yield path.stem, *query.groups()


def test_every_panel_is_of_the_chosen_instances():
    queries = list(board_queries())
    assert queries
    for name, expression in queries:
        series = re.findall(r"\bbased[_:][\w:]+(?:\{[^}]*\})?", expression)
        assert series, name
        for one in series:
            assert 'instance=~"$instance"' in one, f"{name}: {one}"


# What no board shows.
OFF_BOARDS = {"based_state_layout_info": "a name, for those who move states",
              "based_state_slot_bytes": "constant; the pool's bytes are shown"}


def test_every_series_is_on_a_board():
    documented = re.findall(r"^### (\w+)$", (DEPLOY / "docs" / "metrics.md").read_text(), re.M)
    shown = " ".join(expression for _, expression in board_queries())
    missing = {name for name in documented
               if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", shown)}
    assert missing == set(OFF_BOARDS)


def with_a_gpu(folder):
    """The environment of a daemon that finds a driver: the C++ tests' stand-in for NVML."""
    built, = (BIN.resolve().parent / "tests").rglob("libfake_nvml.so")
    shutil.copy(built, folder / "libnvidia-ml.so.1")
    return dict(os.environ, LD_LIBRARY_PATH=str(folder))


def test_no_query_of_any_panel_is_empty(start_daemon, proto, tmp_path):
    access = tmp_path / "access.json"
    access.write_text(json.dumps({"tenants": [{"name": "acme"}, {"name": "other"}]}))
    access.chmod(0o600)
    # A scrape with a label that is not escaped would fail as a whole.
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=8",
                          f"--access_file={access}", '--model_name=a "b" {c="d"} \\\nf 1\n',
                          f"--batch_dir={tmp_path / 'jobs'}", environment=with_a_gpu(tmp_path))
    stop = threading.Event()

    def load():
        request = proto.completion.GenerateRequest(
            token_ids=proto.completion.TokenIds(ids=[1, 2, 3]), tenant="acme")
        request.stop.max_tokens = 8
        request.state.session = "talk"  # its state is copied out and in
        request.state.create_session = True
        batch = proto.completion.GenerateRequest(text=b"a", tenant="acme")
        batch.stop.max_tokens = 4
        batch.priority = proto.completion.PRIORITY_BATCH
        with daemon.channel() as channel:
            stub = proto.completion_grpc.CompletionServiceStub(channel)
            for number in itertools.count():
                if stop.is_set():
                    return
                list(stub.Generate(request, timeout=20))
                request.state.create_session = False
                batch.constraint.regex = f"{number} whales"  # new: it is compiled
                list(stub.Generate(batch, timeout=20))
                time.sleep(0.05)

    prometheus = Prometheus(tmp_path, daemon.metrics_address)
    loader = threading.Thread(target=load)
    loader.start()
    host, port = daemon.http_address.rsplit(":", 1)
    browser = socket.create_connection((host, int(port)))  # the lag is told while there are any
    try:
        prometheus.wait_for("rate(based_generated_tokens_total[5s]) > 0")
        prometheus.wait_for("based:errors:ratio_rate6h")
        prometheus.wait_for("based:slow_first_tokens:ratio_rate1h")
        info = prometheus.query("based_build_info")[0]["metric"]
        assert info["model"] == 'a "b" {c="d"} \\\nf 1\n'
        empty = []
        for name, expression in board_queries():
            expression = expression.replace("$__rate_interval", "10s").replace("$instance", ".+")
            values = [series["value"][1] for series in prometheus.query(expression)]
            if all(value == "NaN" for value in values):  # of no values too
                empty.append(f"{name}: {expression}")
        assert not empty, "\n".join(empty)
        variables = list(board_variables())
        assert len(variables) >= 4
        for board, series, label in variables:
            values = prometheus.get(f"label/{label}/values", **{"match[]": series})
            assert values == [daemon.metrics_address], (board, series, label)
    finally:
        stop.set()
        loader.join()
        browser.close()
        prometheus.stop()


def test_clients_balance_over_daemons(start_daemon, proto):
    """The headless Service gives every address; gRPC's round_robin takes them in turns."""
    daemons = [start_daemon(f"--model={TINY}", "--backend=reference", "--slots=8")
               for _ in range(3)]
    target = "ipv4:" + ",".join(daemon.address for daemon in daemons)
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1]))
    request.stop.max_tokens = 2
    request.stop.ignore_eos = True
    finished = 'based_requests_total{code="OK",finish_reason="max_tokens"}'
    with grpc.insecure_channel(target, options=options) as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for _ in range(30):
            list(stub.Generate(request, timeout=20, wait_for_ready=True))
    counts = [daemon.metric(finished) for daemon in daemons]
    assert sum(counts) == 30 and min(counts) >= 8, counts
    for daemon in daemons:
        assert daemon.stop() == 0
