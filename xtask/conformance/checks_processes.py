"""A sampling client in a second process: pickled, by its handle, and with a number from the server (PROTOCOL 15.7)."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import tinker
from harness import API_KEY, WAIT, Lab, check, equal, expect

BLOCK = 1_000_000_000
WORKER = Path(__file__).with_name("second_process.py")
SEED = 21


def in_second_process(kind: str, data: str) -> list[dict[str, object]]:
    """Runs the worker with the client in `data` and returns its two samples."""
    environment = {**os.environ, "TINKER_API_KEY": API_KEY}
    done = subprocess.run(
        [sys.executable, str(WORKER), kind, str(SEED)],
        input=data,
        capture_output=True,
        text=True,
        timeout=WAIT + 10,
        env=environment,
        check=False,
    )
    equal(done.returncode, 0, f"the second process's exit code; it said {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(lab: Lab, sampler: tinker.SamplingClient, found: list[dict[str, object]], mark: int) -> list[int]:
    """The second process sampled what this one samples, in the same session; returns its sequence numbers."""
    here = lab.sample(sampler=sampler, seed=SEED, stop=[]).sequences[0]
    for sample in found:
        equal(sample["tokens"], list(here.tokens), "tokens of the second process")
        expect(sample["sequence_id"] != here.sequence_id, "one sequence id in two processes")
    rows = lab.control.requests("asample", mark)
    equal({row["json"]["sampling_session_id"] for row in rows}, {sampler._sampling_session_id}, "the sampler")
    started = [row["route"] for row in lab.control.requests(since=mark)]
    for route in ("create_session", "create_sampling_session", "client/config", "client/dynamic_config"):
        expect(route not in started, f"the second process called {route}")
    numbers = [row["json"]["seq_id"] for row in rows]
    equal(numbers[1], numbers[0] + 1, "the second process's numbers")
    expect(numbers[2] < BLOCK, "the first process left its block of numbers")
    return numbers[:2]


@check("pickle: a client works in a second process, in a block of numbers of its own")
def pickled(lab: Lab) -> None:
    sampler = lab.new_sampler(lab.service())
    mark = lab.control.mark()
    data = base64.b64encode(pickle.dumps(sampler)).decode()
    first, _ = compare(lab, sampler, in_second_process("pickle", data), mark)
    expect(first >= BLOCK and first % BLOCK == 0, f"the block begins at {first}")


@check("sampler handle: no credential inside, works in a second process")
def handle(lab: Lab) -> None:
    sampler = lab.new_sampler(lab.service())
    mark = lab.control.mark()
    data = sampler.get_sampler_handle()
    inside = json.loads(base64.urlsafe_b64decode(data))
    equal(inside["sampling_session_id"], sampler._sampling_session_id, "the sampler in the handle")
    expect(API_KEY not in json.dumps(inside), "the key is in the handle")
    first, _ = compare(lab, sampler, in_second_process("handle", data), mark)
    expect(first >= BLOCK and first % BLOCK == 0, f"the block begins at {first}")


@check("join_sampling_session: clones get their numbers from the server, 1, 2, ..")
def joined(lab: Lab) -> None:
    with lab.flags({"sample_join_sampling_session": True}):
        sampler = lab.new_sampler(lab.service())
    for counter in (1, 2):
        mark = lab.control.mark()
        found = in_second_process("handle", sampler.get_sampler_handle())
        request = lab.control.only("join_sampling_session", mark)
        equal(request["json"]["sampling_session_id"], sampler._sampling_session_id, "the joined sampler")
        first, _ = compare(lab, sampler, found, mark)
        equal(first, counter * BLOCK, "the first number of the clone")
