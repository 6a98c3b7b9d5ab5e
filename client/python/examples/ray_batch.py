"""A batch over many daemons with Ray Data.

    pip install "ray[data]" ./client/python
    python ray_batch.py in.jsonl out_dir --daemons gpu-1:7433,gpu-2:7433

Every line of the input is {"prompt": "..."}; other columns are kept. Every row of the output has
"text", "finish_reason", "generated_tokens", "daemon" and "error" beside them. Each daemon gets one
actor, which keeps as many requests under way as the daemon has slots, and an eighth more. A daemon
that is gone or full is waited for (RetryPolicy); a row that fails all the same carries its error.
"""

import argparse
import asyncio

import ray
from based_client import AsyncClient, BasedError, Client, RetryPolicy

ROWS_PER_BATCH = 2048


@ray.remote(num_cpus=0)
class Addresses:
    """Hands each worker a daemon of its own."""

    def __init__(self, addresses):
        self._left = list(addresses)
        self._all = list(addresses)

    def next(self):
        # A worker that Ray starts again, after a crash, finds none left and shares.
        self._left = self._left or list(self._all)
        return self._left.pop(0)


class Worker:
    def __init__(self, addresses, max_tokens, temperature, retry_limit_s):
        self._address = ray.get(addresses.next.remote())
        self._fields = {"max_tokens": max_tokens, "temperature": temperature}
        self._retry = RetryPolicy(attempts=1_000_000, limit_s=retry_limit_s)
        with Client(self._address, retry=self._retry) as client:
            slots = client.capacity().slots_total
        self._under_way = slots + max(slots // 8, 4)
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch):
        rows = self._loop.run_until_complete(self._generate_all(list(batch["prompt"])))
        for name in rows[0]:
            batch[name] = [row[name] for row in rows]
        return batch

    async def _generate_all(self, prompts):
        permits = asyncio.Semaphore(self._under_way)
        async with AsyncClient(self._address, retry=self._retry) as client:
            return await asyncio.gather(*(self._generate(client, permits, p) for p in prompts))

    async def _generate(self, client, permits, prompt):
        async with permits:
            try:
                # Few messages: nobody watches the text come.
                result = await client.generate(prompt, priority="batch",
                                               tokens_per_message=65_536, **self._fields)
            except BasedError as error:
                return {"text": "", "finish_reason": "", "generated_tokens": 0,
                        "daemon": self._address, "error": str(error)}
        return {"text": result.text, "finish_reason": result.choices[0].finish_reason,
                "generated_tokens": result.generated_tokens, "daemon": self._address, "error": ""}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help="JSONL file or folder")
    parser.add_argument("output", help="folder for JSONL files")
    parser.add_argument("--daemons", required=True, help="HOST:PORT with commas between")
    parser.add_argument("--max_tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--retry_limit_s", type=float, default=300)
    parser.add_argument("--rows_per_batch", type=int, default=ROWS_PER_BATCH)
    arguments = parser.parse_args()
    daemons = arguments.daemons.split(",")
    addresses = Addresses.remote(daemons)
    rows = ray.data.read_json(arguments.input, lines=True)
    # Blocks small enough that every daemon has some.
    rows = rows.repartition(max(len(daemons) * 4, 1))
    rows = rows.map_batches(
        Worker,
        fn_constructor_args=(addresses, arguments.max_tokens, arguments.temperature,
                             arguments.retry_limit_s),
        batch_size=arguments.rows_per_batch,
        concurrency=len(daemons),
        num_cpus=0.1,  # the work is the daemons'
    )
    rows.write_json(arguments.output)


if __name__ == "__main__":
    main()
