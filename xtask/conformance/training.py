"""What the training checks share: training clients, data, steps, and reading what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tinker
from harness import BASE_MODEL, WAIT, Lab, expect, near, tokens
from tinker import types
from tinker.lib.queue_state_logger import QueueStateLogger

RANK = 8
SEED = 11
ADAM = types.AdamParams(learning_rate=0.05)
# Far above any gradient here: a step is then proportional to its gradient, so that steps can be compared closely. With
# a small eps the first step has full length in every direction, even where the gradient is only rounding.
GENTLE = types.AdamParams(learning_rate=2e5, eps=1e6)
WORDS = "The owl met the fox by the old mill."
MORE_WORDS = ["A fox ran by.", "The mill is old, and so is the owl.", "By and by, they met."]
# Results of one computation may differ in the last digits of a float32, by the order of its sums.
CLOSE = 1e-5
# The same computation gives the same bits.
EXACT = 0.0

# What `forward` and `forward_backward` give.
Output = types.ForwardBackwardOutput


def new_trainer(lab: Lab, service: tinker.ServiceClient | None = None, **options: Any) -> tinker.TrainingClient:
    """A new training run; runs with the same options start with the same weights."""
    options = {"base_model": BASE_MODEL, "rank": RANK, "seed": SEED, **options}
    return (service or lab.main_service).create_lora_training_client(**options).result(WAIT)


def lesson(words: str = WORDS, **inputs: Any) -> types.Datum:
    """A text to learn, every token with weight 1. `inputs` replace or add inputs of the loss."""
    ids = tokens(words)
    inputs = {"target_tokens": ids[1:], "weights": [1.0] * (len(ids) - 1), **inputs}
    return types.Datum(model_input=types.ModelInput.from_ints(ids[:-1]), loss_fn_inputs=inputs)


def lessons() -> list[types.Datum]:
    """Four texts of different lengths."""
    return [lesson(words) for words in (WORDS, *MORE_WORDS)]


def loss(output: Output) -> float:
    return output.metrics["loss:sum"]


def logprobs(output: Output) -> list[float]:
    """The logprobs of all targets of all data, in order."""
    return [value for outputs in output.loss_fn_outputs for value in outputs["logprobs"].data]


def train(
    client: tinker.TrainingClient,
    data: list[types.Datum],
    steps: int = 1,
    params: types.AdamParams | types.DimuonParams = ADAM,
) -> list[float]:
    """Takes steps without waiting between them, and returns the loss before each."""
    passes, updates = [], []
    for _ in range(steps):
        passes.append(client.forward_backward(data, "cross_entropy"))
        updates.append(client.optim_step(params))
    for update in updates:
        update.result(WAIT)
    return [loss(found.result(WAIT)) for found in passes]


def evaluate(client: tinker.TrainingClient, data: list[types.Datum] | None = None) -> list[float]:
    """The logprobs of all targets with the client's present weights."""
    return logprobs(client.forward(data or [lesson()], "cross_entropy").result(WAIT))


def run_of(lab: Lab, client: tinker.TrainingClient) -> dict[str, Any]:
    """What the server remembers of a run: ids in order of arrival and of execution, gaps, steps."""
    runs = lab.control.call("GET", "/control/state")["runs"]
    return next(run for run in runs if run["model_id"] == client.model_id)


def same(found: list[float], wanted: list[float], what: str, tolerance: float = CLOSE) -> None:
    expect(len(found) == len(wanted), f"{what}: {len(found)} numbers, wanted {len(wanted)}")
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        expect(near(one, other, tolerance), f"{what}, number {place}: found {one!r}, wanted {other!r}")


def differ(found: list[float], other: list[float], what: str, by: float = 1e-3) -> None:
    expect(len(found) == len(other), f"{what}: {len(found)} and {len(other)} numbers")
    most = max(abs(one - two) for one, two in zip(found, other, strict=True))
    expect(most > by, f"{what}: the numbers differ by at most {most}")


@contextmanager
def watched() -> Iterator[list[tuple[str, str, str, str | None]]]:
    """Keeps what clients are told about their queue: what waits, its name, the state and the reason."""
    told: list[tuple[str, str, str, str | None]] = []
    built_in = QueueStateLogger.on_queue_state_change

    def observer(self: QueueStateLogger, state: Any, reason: str | None) -> None:
        told.append((self._message_prefix, self._identifier, state.value, reason))
        built_in(self, state, reason)

    QueueStateLogger.on_queue_state_change = observer
    try:
        yield told
    finally:
        QueueStateLogger.on_queue_state_change = built_in
