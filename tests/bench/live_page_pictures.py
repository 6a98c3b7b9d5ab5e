"""Pictures of the live page under load, as deploy/docs holds them: for a desk in light colours, for
a phone in dark ones, and with --all the other two.

    BASED_BIN_DIR=build/bin build/venv/bin/python tests/bench/live_page_pictures.py [--out DIR] [--all]

A daemon with the demo model and 64 slots serves interactive and batch requests of all lengths for
--seconds first. Needs chromium and what tests/e2e/requirements.txt names.
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import DEMO, ROOT, Daemon

# name, width, colour scheme
SHIPPED = [("live_page", 1100, "light"), ("live_page_phone", 390, "dark")]
OTHERS = [("live_page_dark", 1100, "dark"), ("live_page_phone_light", 390, "light")]
STREAMS = 50
PHONE_HEIGHT = 1000


def modules():
    from grpc_tools import protoc

    out = tempfile.mkdtemp()
    files = [str(ROOT / "proto" / "based" / "v1" / "completion.proto")]
    assert protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}",
                        f"--grpc_python_out={out}", *files]) == 0
    sys.path.insert(0, out)
    from based.v1 import completion_pb2, completion_pb2_grpc

    return completion_pb2, completion_pb2_grpc


def serve(daemon, pb, rpc, number, stop):
    """Asks again and again until `stop` is set."""
    chance = random.Random(number)
    with daemon.channel() as channel:
        stub = rpc.CompletionServiceStub(channel)
        while not stop.is_set():
            prompt = [chance.randrange(2, 4000) for _ in range(chance.choice([20, 20, 200, 1000]))]
            request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt))
            request.stop.max_tokens = chance.randrange(50, 400)
            request.priority = chance.choice([pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH])
            list(stub.Generate(request, timeout=120))


def take(daemon, pictures, out, seconds):
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = []
        for name, width, scheme in pictures:
            page = browser.new_page(viewport={"width": width, "height": PHONE_HEIGHT},
                                    color_scheme=scheme)
            page.goto(f"http://{daemon.metrics_address}/")
            pages.append((name, width, page))
        time.sleep(seconds)
        for name, width, page in pages:
            page.bring_to_front()
            time.sleep(2)  # it draws when it is seen
            page.screenshot(path=out / f"{name}.png", full_page=width > 400)
        browser.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "deploy" / "docs")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    pb, rpc = modules()
    daemon = Daemon(f"--model={DEMO}", "--backend=cpu", "--slots=64")
    stop = threading.Event()
    threads = [threading.Thread(target=serve, args=(daemon, pb, rpc, number, stop))
               for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    try:
        take(daemon, SHIPPED + (OTHERS if arguments.all else []), arguments.out, arguments.seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        daemon.stop()


if __name__ == "__main__":
    main()
