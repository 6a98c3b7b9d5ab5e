"""A batch over many daemons with Ray Data.

    pip install "ray[data]" ./client/python
    python ray_batch.py in.jsonl out_dir --daemons gpu-1:7433,gpu-2:7433

Every line of the input is {"prompt": "..."}; other columns are kept. Every row of the output has
"text", "finish_reason", "generated_tokens", "daemon" and "error" beside them. The files in out_dir,
one after the other by name, have the rows in the order of the input.

Each daemon gets one actor, which keeps as many requests under way as the daemon has slots, and an
eighth more. A request to a daemon that is gone is sent to the next one, one to a full daemon after
the wait that it asks for; a row that fails for longer than --retry_limit_s carries its error.

With RAY_ADDRESS set it runs on that cluster, else on this machine, within bounds.
"""

import argparse
import asyncio
import contextlib
import os
import time

import grpc
import ray
from based_client import AsyncClient, BasedError, Client, RetryPolicy

SLOTS_OF_A_DAEMON_THAT_IS_GONE = 32
PAUSE_S = 0.2
LOCAL = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
ONCE = RetryPolicy(attempts=1)  # here, the next try may be at another daemon


@ray.remote(num_cpus=0)
class Homes:
    """Hands each worker a daemon to begin with."""

    def __init__(self, daemons):
        self._daemons = daemons
        self._given = 0

    def next(self):
        # A worker that Ray starts again, after a crash, shares one with another.
        self._given += 1
        return (self._given - 1) % self._daemons


class Worker:
    """Called by Ray with one block of rows after the other."""

    def __init__(self, homes, daemons, retry_limit_s, fields):
        self._home = self._at = ray.get(homes.next.remote())
        self._daemons = daemons
        self._retry_limit_s = retry_limit_s
        self._fields = fields
        slots = self._slots()
        self._under_way = slots + max(slots // 8, 4)
        self._loop = asyncio.new_event_loop()

    def _slots(self):
        try:
            with Client(self._daemons[self._home], retry=ONCE) as client:
                return client.capacity().slots_total
        except BasedError:
            return SLOTS_OF_A_DAEMON_THAT_IS_GONE

    def __call__(self, block):
        rows = self._loop.run_until_complete(self._generate_all(list(block["prompt"])))
        for name in ("text", "finish_reason", "generated_tokens", "daemon", "error"):
            block[name] = [row[name] for row in rows]
        return block

    async def _generate_all(self, prompts):
        self._at = self._home  # it may be back
        permits = asyncio.Semaphore(self._under_way)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(AsyncClient(daemon, retry=ONCE))
                       for daemon in self._daemons]
            return await asyncio.gather(*(self._row(clients, permits, p) for p in prompts))

    async def _row(self, clients, permits, prompt):
        async with permits:
            try:
                result, daemon = await self._generate(clients, prompt)
            except BasedError as error:
                return {"text": "", "finish_reason": "", "generated_tokens": 0, "daemon": "",
                        "error": str(error)}
        return {"text": result.text, "finish_reason": result.choices[0].finish_reason,
                "generated_tokens": result.generated_tokens, "daemon": daemon, "error": ""}

    async def _generate(self, clients, prompt):
        end = time.monotonic() + self._retry_limit_s
        while True:
            at = self._at
            try:
                # Few messages: nobody watches the text come.
                result = await clients[at].generate(prompt, priority="batch",
                                                    tokens_per_message=65_536, **self._fields)
                return result, self._daemons[at]
            except BasedError as error:
                gone = error.code == grpc.StatusCode.UNAVAILABLE
                full = error.code == grpc.StatusCode.RESOURCE_EXHAUSTED and error.retry_after
                if not (gone or full) or time.monotonic() > end:
                    raise
                if gone and self._at == at:  # else another request has moved on already
                    self._at = (at + 1) % len(clients)
                await asyncio.sleep(error.retry_after if full else PAUSE_S)


def start_ray():
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
        ray.init(**LOCAL)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help="JSONL file or folder")
    parser.add_argument("output", help="folder for JSONL files, which must not exist")
    parser.add_argument("--daemons", required=True, help="HOST:PORT with commas between")
    parser.add_argument("--max_tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--retry_limit_s", type=float, default=300)
    parser.add_argument("--rows_per_block", type=int, default=1024,
                        help="rows that a daemon gets at a time: many times its slots")
    arguments = parser.parse_args()
    daemons = arguments.daemons.split(",")
    start_ray()
    rows = ray.data.read_json(arguments.input, lines=True)
    rows = rows.repartition(target_num_rows_per_block=arguments.rows_per_block)
    rows = rows.map_batches(
        Worker,
        fn_constructor_args=(Homes.remote(len(daemons)), daemons, arguments.retry_limit_s,
                             {"max_tokens": arguments.max_tokens,
                              "temperature": arguments.temperature}),
        batch_size=None,  # a block at a time
        compute=ray.data.ActorPoolStrategy(size=len(daemons)),
        num_cpus=0.1,  # the work is the daemons'
    )
    # What is there belongs to another run: rows beside it would be there twice.
    rows.write_json(arguments.output, mode=ray.data.SaveMode.ERROR)


if __name__ == "__main__":
    main()
