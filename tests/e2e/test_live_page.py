"""The live page in a real headless Chromium, and what hostile scrapers do to its listener."""

import json
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

LIMIT_S = 20


def wait_until(page, condition):
    """Asks from outside the page, whose content policy forbids eval within it."""
    end = time.monotonic() + LIMIT_S
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never true: {condition}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def loaded(tiny, proto):
    """The tiny daemon with completions running all the time."""
    stop = threading.Event()

    def load():
        request = proto.completion.GenerateRequest(
            token_ids=proto.completion.TokenIds(ids=[1, 2, 3]))
        request.stop.max_tokens = 200
        request.stop.ignore_eos = True
        with tiny.channel() as channel:
            stub = proto.completion_grpc.CompletionServiceStub(channel)
            while not stop.is_set():
                list(stub.Generate(request, timeout=60))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield tiny
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("scheme, width", [("light", 1100), ("dark", 390)])
def test_shows_what_runs_live(loaded, browser, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems, elsewhere = [], []
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: elsewhere.append(request.url)
            if loaded.metrics_address not in request.url else None)
    page.goto(f"http://{loaded.metrics_address}/")
    wait_until(page, "parseInt(document.getElementById('tokens_rate').textContent) > 0")
    wait_until(page, "document.getElementById('itl').textContent !== '–'")
    assert page.inner_text("#model") == "tiny-a"
    assert re.match(r"\d+ of 64 in use", page.inner_text("#slots_text"))
    assert page.inner_text("#state") == "live"
    painted = page.evaluate("""() => [...document.querySelectorAll('canvas')].map((canvas) => {
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.some((byte) => byte !== 0);
    })""")
    assert len(painted) == 8 and all(painted)
    # What is in the slots, and who: from /debug.json, which this machine may read.
    wait_until(page, "document.getElementById('in_decode').textContent !== '0'")
    assert page.inner_text("#in_free") in ("62", "63", "64")
    assert page.inner_text("#in_parked") == "0"
    wait_until(page, "document.getElementById('requests').rows.length > 2")
    assert "max_tokens" in page.inner_text("#requests")
    assert re.match(r"\d+ live", page.inner_text("#requests_text"))
    assert page.inner_text("#full_speed") not in ("–", "0")
    # What is left, not what is used.
    full, used, left = page.evaluate("""() => {
        draw();
        return [sum(last(), 'based_sustainable_tokens_per_second'),
                rate(ago(3), last(), 'based_generated_tokens_total'),
                document.getElementById('headroom').textContent];
    }""")
    assert used > 0 and left == f"{max(0, 100 - 100 * used / full):.0f} %", (full, used, left)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 23, 26)") == (scheme == "dark"), ground
    assert not problems and not elsewhere
    page.close()


def test_text_from_outside_stays_text(tiny, browser):
    """A label that holds markup is shown, not run."""
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    label = hostile.replace("\\", "\\\\").replace('"', '\\"')
    metrics = (f'based_build_info{{version="{label}",backend="cpu",model="{label}"}} 1\n'
               f'based_requests_total{{code="OK",finish_reason="{label}"}} 3\n'
               'based_state_slots{state="free"} 8\n')
    debug = {"requests": [{"request_id": hostile, "tenant": hostile, "phase": hostile,
                           "prompt_tokens": 1, "generated_tokens": 2, "age_s": 1}],
             "live": 1,
             "ended": [{"request_id": hostile, "tenant": hostile, "outcome": hostile,
                        "prompt_tokens": 1, "generated_tokens": 2, "first_token_s": 0,
                        "total_s": 1, "ago_s": 1}]}
    page = browser.new_page()
    page.route("**/metrics?*", lambda route: route.fulfill(status=200, body=metrics))
    page.route("**/debug.json*", lambda route: route.fulfill(status=200, json=debug))
    page.goto(f"http://{tiny.metrics_address}/")
    wait_until(page, "document.getElementById('endings').rows.length === 1")
    assert page.inner_text("#model") == hostile
    assert page.inner_text("#endings tr td") == hostile
    wait_until(page, "document.getElementById('requests').rows.length === 2")
    assert page.inner_text("#requests tr:first-child td") == hostile
    assert page.inner_text("#requests tr:last-child td:nth-child(3)") == hostile
    assert page.title() == "based-server"
    assert page.evaluate("document.images.length + document.scripts.length") == 2
    page.close()


def test_asks_only_for_what_it_shows(start_daemon, proto, browser, tmp_path):
    """However many tenants and requests there are."""
    from conftest import ROOT, TINY

    script = (ROOT / "server" / "live_page" / "live.js").read_text()
    asked, rest = re.search(r"SHOWN = \[(.*?)\];(.*)", script, re.S).groups()
    names = set(re.findall(r"'(based_\w+)'", asked))
    assert names == set(re.findall(r"based_\w+", rest)), "used and not asked for, or the reverse"

    access = tmp_path / "access.json"
    access.write_text(json.dumps(
        {"tenants": [{"name": f"tenant-with-a-name-{i}"} for i in range(1024)]}))
    access.chmod(0o600)
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=2",
                          f"--access_file={access}")
    full = daemon.get("/metrics")
    assert len(full) > 200_000
    shown = daemon.get("/metrics?" + "&".join(f"name[]={name}" for name in sorted(names)))
    assert {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")} == names
    assert daemon.get("/debug.json?requests=0").count("request_id") == 0
    with pytest.raises(urllib.error.HTTPError) as error:
        daemon.get("/debug.json?requests=all")
    assert error.value.code == 400 and b"requests is 'all'" in error.value.read()

    request = proto.completion.GenerateRequest(
        token_ids=proto.completion.TokenIds(ids=[1, 2, 3]), tenant="tenant-with-a-name-7")
    request.stop.max_tokens = 1_000_000
    request.stop.ignore_eos = True
    page = browser.new_page()
    sizes = {}
    page.on("response", lambda reply: sizes.__setitem__(
        reply.url.split("?")[0].rpartition("/")[2], int(reply.headers["content-length"])))
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        calls = [stub.Generate(request) for _ in range(300)]
        daemon.wait_for_metric("based_queued_requests", 298)
        page.goto(f"http://{daemon.metrics_address}/")
        wait_until(page, "document.getElementById('requests_text').textContent === '300 live'")
        assert page.evaluate("document.getElementById('requests').rows.length") == 16
        page.wait_for_timeout(1500)
        for call in calls:
            call.cancel()
    assert 1000 < sizes["metrics"] < 20_000 and 1000 < sizes["debug.json"] < 10_000, sizes
    page.close()


def test_a_viewer_elsewhere_sees_all_but_the_requests(tiny, browser):
    """/debug.json answers 403 to other machines."""
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.fulfill(status=403, body="shown on the daemon's own machine alone")

    page = browser.new_page()
    page.route("**/debug.json*", refuse)
    page.goto(f"http://{tiny.metrics_address}/")
    wait_until(page, "document.getElementById('requests_text').textContent.includes('alone')")
    wait_until(page, "document.getElementById('state').textContent === 'live'")
    assert re.match(r"\d+ of 64 in use", page.inner_text("#slots_text"))
    assert len(asked) == 1, "it does not ask again"
    page.close()


def test_a_browser_whose_clock_jumps_shows_the_same(loaded, browser):
    """Rates and ages come from the browser's monotonic clock and from durations of the daemon."""
    page = browser.new_page()
    page.add_init_script("""
        const real = Date.now;
        let calls = 0;
        Date.now = () => real() + (++calls % 2 ? 86400e3 : -86400e3);
    """)
    page.goto(f"http://{loaded.metrics_address}/")
    wait_until(page, "parseInt(document.getElementById('tokens_rate').textContent) > 0")
    wait_until(page, "document.getElementById('requests').rows.length > 2")
    labels = page.evaluate("charts.rate.data.labels")
    assert all(re.fullmatch(r"-\d{1,3} s|now", label) for label in labels), labels
    times = page.evaluate(
        "[...document.querySelectorAll('#requests td:last-child')].map((cell) => cell.textContent)")
    assert all(re.fullmatch(r"[\d.]+ (s|ms|µs)", text) for text in times), times
    page.close()


def test_says_when_the_daemon_is_gone(start_daemon, browser):
    from conftest import TINY

    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=4")
    page = browser.new_page()
    page.goto(f"http://{daemon.metrics_address}/")
    wait_until(page, "document.getElementById('state').textContent === 'live'")
    assert daemon.stop() == 0
    wait_until(page, "document.getElementById('state').className === 'bad'")
    page.close()


def test_the_page_is_small_and_closed(tiny):
    total = 0
    for path in ("/", "/live.css", "/live.js", "/chart.js"):
        with urllib.request.urlopen(f"http://{tiny.metrics_address}{path}", timeout=10) as reply:
            total += len(reply.read())
            assert "script-src 'self'" in reply.headers["Content-Security-Policy"]
    assert total < 300_000


def test_slow_scrapers_do_not_hold_up_others(tiny):
    host, port = tiny.metrics_address.rsplit(":", 1)
    slow = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        for connection in slow[::2]:
            connection.sendall(b"GET /chart.js HTTP/1.1\r\nHost:")  # and then nothing
        for connection in slow[1::2]:
            connection.sendall(b"GET /chart.js HTTP/1.1\r\nHost: localhost\r\n\r\n")  # and reads nothing
        for _ in range(20):
            assert "based_state_slots" in tiny.get("/metrics")
    finally:
        for connection in slow:
            connection.close()


def test_a_storm_of_scrapes_is_served(tiny):
    failures = []

    def scrape():
        try:
            for _ in range(25):
                assert "based_state_slots" in tiny.get("/metrics")
        except Exception as error:  # noqa: BLE001, reported below
            failures.append(error)

    threads = [threading.Thread(target=scrape) for _ in range(16)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    print(f"400 scrapes in {time.monotonic() - started:.2f} s")
