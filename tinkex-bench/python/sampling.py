"""Samples with the official SDK as the cell says, and prints what it cost as one line of JSON.

Usage: sampling.py URL CELL, with the cell as JSON. The loop is that of `driver.rs`.
"""

from __future__ import annotations

import asyncio
import json
import os
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import tinker
from tinker import types

SAMPLED_TOKENS = 32


def status(field: str) -> int | None:
    """A value of the process's status file in bytes; none where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(field + ":")]
    return int(values[0]) * 1024 if values else None


def baseline_memory() -> int | None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return status("VmRSS")


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: ordered[max(math.ceil(len(ordered) * share) - 1, 0)] for name, share in shares.items()}


class Driver:
    def __init__(self, sampler: tinker.SamplingClient, cell: dict[str, Any]) -> None:
        self.sampler = sampler
        self.cell = cell
        # One prompt for all: what making it costs in Python is not the SDK's doing.
        ids = [i * 7919 % 150_000 for i in range(cell["prompt_tokens"])]
        self.prompt = types.ModelInput.from_ints(ids)
        self.params = types.SamplingParams(max_tokens=SAMPLED_TOKENS)

    async def sample(self) -> float:
        """One sample; returns the latency beyond the server's own time, in milliseconds."""
        called = time.perf_counter()
        reply = await self.sampler.sample_async(self.prompt, 1, self.params)
        if len(reply.sequences[0].tokens) != SAMPLED_TOKENS:
            raise RuntimeError(f"a sample of {len(reply.sequences[0].tokens)} tokens")
        return max((time.perf_counter() - called) * 1e3 - self.cell["reply_ms"], 0.0)

    async def run(self, samples: int) -> list[float]:
        left = iter(range(samples))
        took: list[float] = []

        async def slot() -> None:
            for _ in left:
                took.append(await self.sample())

        await asyncio.gather(*(slot() for _ in range(min(self.cell["in_flight"], samples))))
        return took

    async def drive(self) -> dict[str, Any]:
        load = self.cell["load"]["samples"]
        baseline = baseline_memory()
        await self.run(load["warm_up"])
        wall, cpu = time.perf_counter(), time.process_time()
        took = await self.run(load["measured"])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = status("VmHWM")
        memory = None if baseline is None or peak is None else {"baseline_bytes": baseline, "peak_bytes": peak}
        return {
            "samples": len(took),
            "cpu_seconds": cpu,
            "wall_seconds": wall,
            "memory": memory,
            "added_latency_ms": percentiles(took),
        }


async def main(url: str, cell: dict[str, Any]) -> None:
    # Every connection is an open file.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    service = tinker.ServiceClient(api_key="tml-bench", base_url=url)
    sampler = await service.create_sampling_client_async(base_model="Qwen/Qwen3-8B")
    print(json.dumps(await Driver(sampler, cell).drive()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
    # Without the interpreter's clearing up, which now and then crashes on the SDK's own threads.
    os._exit(0)
