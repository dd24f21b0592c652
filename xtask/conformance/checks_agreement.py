"""Two clients, one server: the official SDK and our Rust client train the same, to the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import tinker
from harness import API_KEY, BASE_MODEL, WAIT, Lab, check, equal, expect
from tinker import types
from training import MORE_WORDS, WORDS, lesson, logprobs, loss, new_trainer, same, train

RANK = 8
SEED = 77
STEPS = 20
RATE = 0.03


def by_rust(lab: Lab, data: list[types.Datum]) -> dict[str, list[float]]:
    """The losses before each step and after the last, and the final logprobs, as our client gets them."""
    job = {
        "base_model": BASE_MODEL,
        "rank": RANK,
        "seed": SEED,
        "steps": STEPS,
        "learning_rate": RATE,
        "data": [
            {
                "tokens": datum.model_input.to_ints(),
                "target_tokens": datum.loss_fn_inputs["target_tokens"].data,
                "weights": datum.loss_fn_inputs["weights"].data,
            }
            for datum in data
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job))
        done = subprocess.run(
            [lab.training_reference, str(file), "--url", lab.base_url],
            capture_output=True,
            text=True,
            timeout=WAIT,
            env={**os.environ, "TINKER_API_KEY": API_KEY},
            check=False,
        )
    equal(done.returncode, 0, f"the exit code; it said {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"losses": found["losses"], "logprobs": [value for row in found["logprobs"] for value in row]}


def passes(lab: Lab, mark: int) -> list[tuple[int, str, str | None]]:
    rows = lab.control.requests("forward_backward", mark)
    return [(row["seq_id"], row["headers"]["content-type"], row["headers"].get("content-encoding")) for row in rows]


def compare(lab: Lab, service: tinker.ServiceClient) -> None:
    weights = [0.25 + place % 4 / 2 for place in range(len(WORDS) - 1)]
    data = [lesson(weights=weights), *(lesson(words) for words in MORE_WORDS)]
    mark = lab.control.mark()
    rust = by_rust(lab, data)
    rust_passes = passes(lab, mark)
    client = new_trainer(lab, service, rank=RANK, seed=SEED)
    mark = lab.control.mark()
    losses = train(client, data, STEPS, types.AdamParams(learning_rate=RATE))
    last = client.forward(data, "cross_entropy").result(WAIT)
    expect(losses[-1] < losses[0] / 2, f"the loss went from {losses[0]} to {losses[-1]} only")
    same(rust["losses"], [*losses, loss(last)], "our client's losses", 1e-5)
    same(rust["logprobs"], logprobs(last), "our client's logprobs", 1e-5)
    equal(rust_passes, passes(lab, mark), "id, type and encoding of the passes, in order of arrival")


@check("our client agrees: every loss and the final logprobs of 20 pipelined steps")
def agreement(lab: Lab) -> None:
    compare(lab, lab.main_service)


@check("our client agrees in chunks and compressed too")
def agreement_in_chunks(lab: Lab) -> None:
    with lab.flags({"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": True, "proto_compress_fwdbwd": True}):
        compare(lab, lab.service())


@check("the server's view of all runs: every sequence id once, in order, without a gap")
def order_of_all(lab: Lab) -> None:
    runs = lab.control.call("GET", "/control/state")["runs"]
    expect(len(runs) > 50, f"{len(runs)} runs")
    for run in runs:
        equal((run["gaps"], run["waiting"]), ([], []), f"gaps and waiting ids of {run['model_id']}")
        equal(run["executed"], sorted(run["executed"]), f"the order of execution of {run['model_id']}")
        equal(len(set(run["seq_ids"])), len(run["seq_ids"]), f"different sequence ids of {run['model_id']}")
