"""The losses: forms of their inputs, values, gradients, and what is refused (PROTOCOL 12.1, 12.2, 13.3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tinker
from harness import WAIT, Lab, check, equal, expect, near, tokens
from tinker import types
from tinker.lib.api_future_impl import _APIFuture
from training import (
    CLOSE,
    EXACT,
    GENTLE,
    MORE_WORDS,
    WORDS,
    Output,
    differ,
    evaluate,
    lesson,
    logprobs,
    loss,
    new_trainer,
    same,
    train,
)

IDS = tokens(WORDS)
COUNT = len(IDS) - 1
WIDTH = 3


def tensor(values: object, dtype: str) -> types.TensorData:
    array = np.asarray(values, dtype=dtype)
    return types.TensorData(data=array, dtype=dtype, shape=list(array.shape))


def sparse(dense: np.ndarray, listed: np.ndarray, dtype: str) -> types.TensorData:
    """The listed cells of a matrix, in CSR form."""
    rows, columns = np.nonzero(listed)
    crow = [int((rows < row).sum()) for row in range(len(dense) + 1)]
    values = dense[rows, columns].tolist()
    shape = list(dense.shape)
    return types.TensorData(
        data=values, dtype=dtype, shape=shape, sparse_crow_indices=crow, sparse_col_indices=columns.tolist()
    )


def outcome(lab: Lab, datum: types.Datum, loss_fn: str = "cross_entropy") -> tuple[Output, list[float]]:
    """What a fresh run says about a datum, and its logprobs of the words after a step on it."""
    client = new_trainer(lab)
    found = client.forward_backward([datum], loss_fn)
    client.optim_step(GENTLE)
    return found.result(WAIT), evaluate(client)


@check("inputs: dense lists, arrays and CSR tensors of targets per position give equal results")
def matrix_targets(lab: Lab) -> None:
    targets = np.zeros((COUNT, WIDTH), dtype=np.int64)
    weights = np.zeros((COUNT, WIDTH), dtype=np.float32)
    targets[:, 1] = IDS[1:]
    weights[:, 1] = 0.75
    targets[::4, 0] = ord("e")
    weights[::4, 0] = 0.25
    listed = weights != 0
    forms = {
        "lists": {"target_tokens": targets.tolist(), "weights": weights.tolist()},
        "arrays": {"target_tokens": targets, "weights": weights},
        "sparse": {
            "target_tokens": sparse(targets, listed, "int64"),
            "weights": sparse(weights, listed, "float32"),
        },
        "mixed": {"target_tokens": targets, "weights": sparse(weights, listed, "float32")},
    }
    results = {name: outcome(lab, lesson(**inputs)) for name, inputs in forms.items()}
    wanted, after = results["lists"]
    cells = wanted.loss_fn_outputs[0]["logprobs"]
    equal(cells.shape, [COUNT, WIDTH], "the shape of logprobs")
    own = evaluate(new_trainer(lab))
    same(np.reshape(cells.data, (COUNT, WIDTH))[:, 1].tolist(), own, "logprobs of the text's own tokens")
    expected = -float((np.reshape(cells.data, (COUNT, WIDTH)) * weights).sum())
    expect(near(loss(wanted), expected, CLOSE), f"the loss: found {loss(wanted)}, wanted {expected}")
    for name, (found, next_logprobs) in results.items():
        expect(near(loss(found), loss(wanted), CLOSE), f"the loss of {name}: {loss(found)}, of lists {loss(wanted)}")
        dense = found.loss_fn_outputs[0]["logprobs"]
        equal(dense.shape, [COUNT, WIDTH], f"the shape of logprobs of {name}")
        found_cells = np.reshape(dense.data, (COUNT, WIDTH))[listed].tolist()
        same(found_cells, np.reshape(cells.data, (COUNT, WIDTH))[listed].tolist(), f"logprobs of {name}")
        same(next_logprobs, after, f"logprobs after a step on {name}")


@check("inputs: plain numbers become what their input needs, whatever they are given as")
def coerced(lab: Lab) -> None:
    wanted, after = outcome(lab, lesson(weights=[1.0, 0.0] * (COUNT // 2) + [1.0] * (COUNT % 2)))
    ones = [1, 0] * (COUNT // 2) + [1] * (COUNT % 2)
    for what, inputs in {
        "whole weights": {"weights": ones},
        "fractional targets": {"target_tokens": [token + 0.5 for token in IDS[1:]], "weights": ones},
        "double precision": {"weights": np.asarray(ones, dtype=np.float64)},
        "half precision": {"weights": np.asarray(ones, dtype=np.float16)},
        "narrow integers": {"target_tokens": np.asarray(IDS[1:], dtype=np.int16), "weights": ones},
        "tensors": {"target_tokens": tensor(IDS[1:], "int64"), "weights": tensor(ones, "float32")},
    }.items():
        found, next_logprobs = outcome(lab, lesson(**inputs))
        equal(loss(found), loss(wanted), f"the loss of {what}")
        same(next_logprobs, after, f"logprobs after a step on {what}", EXACT)


# Each loss as its documentation defines it: the loss of one datum and its derivative by the logprobs `new`, given the
# logprobs `old` of the sampler, the advantages and the numbers of the config.
def importance_sampling(new: np.ndarray, old: np.ndarray, adv: np.ndarray) -> tuple[float, np.ndarray]:
    ratio = np.exp(new - old)
    return -(ratio * adv).sum(), -ratio * adv


def ppo(
    new: np.ndarray, old: np.ndarray, adv: np.ndarray, clip_low_threshold: float = 0.8, clip_high_threshold: float = 1.2
) -> tuple[float, np.ndarray]:
    ratio = np.exp(new - old)
    clipped = np.clip(ratio, clip_low_threshold, clip_high_threshold)
    free = ratio * adv <= clipped * adv
    return -np.minimum(ratio * adv, clipped * adv).sum(), np.where(free, -ratio * adv, 0.0)


def cispo(
    new: np.ndarray, old: np.ndarray, adv: np.ndarray, clip_low_threshold: float = 0.8, clip_high_threshold: float = 1.2
) -> tuple[float, np.ndarray]:
    clipped = np.clip(np.exp(new - old), clip_low_threshold, clip_high_threshold)
    return -(clipped * new * adv).sum(), -clipped * adv


def dro(new: np.ndarray, old: np.ndarray, adv: np.ndarray, beta: float = 0.05) -> tuple[float, np.ndarray]:
    value = new * adv - 0.5 * beta * (new - old) ** 2
    return -value.sum(), -(adv - beta * (new - old))


def gspo(
    new: np.ndarray, old: np.ndarray, adv: np.ndarray, clip_low_threshold: float = 0.8, clip_high_threshold: float = 1.2
) -> tuple[float, np.ndarray]:
    ratio = np.full_like(new, np.exp((new - old)[SAMPLED].mean()))
    clipped = np.clip(ratio, clip_low_threshold, clip_high_threshold)
    free = ratio * adv <= clipped * adv
    return -np.minimum(ratio * adv, clipped * adv).sum(), np.where(free, -ratio * adv, 0.0)


# The last part of the text counts as sampled; the part before it is the prompt.
SAMPLED = np.arange(COUNT) >= 8


def experience(old: np.ndarray, words: str = WORDS, **inputs: object) -> types.Datum:
    """A text with the logprobs it was sampled with, and advantages of both signs."""
    ids = tokens(words)
    inputs = {
        "target_tokens": ids[1:],
        "logprobs": old.astype(np.float32),
        "advantages": advantages().astype(np.float32),
        **inputs,
    }
    return types.Datum(model_input=types.ModelInput.from_ints(ids[:-1]), loss_fn_inputs=inputs)


def advantages() -> np.ndarray:
    return np.where(SAMPLED, np.sin(np.arange(COUNT) * 1.7) * 1.5, 0.0).astype(np.float32).astype(np.float64)


def judge(
    lab: Lab,
    name: str,
    formula: Callable[..., tuple[float, np.ndarray]],
    config: dict[str, float],
    drift: float,
    **inputs: np.ndarray,
) -> None:
    """Compares value and gradient of a loss with its formula. `drift` is how far the logprobs are from the old ones."""
    by_server, by_hand = new_trainer(lab), new_trainer(lab)
    new = np.asarray(evaluate(by_server), dtype=np.float64)
    old = (new + drift * np.cos(np.arange(COUNT) * 0.9) + drift / 3).astype(np.float32).astype(np.float64)
    extra = {"sequence_ratio_mask": SAMPLED.astype(np.float32)} if name == "gspo" else {}
    found = by_server.forward_backward([experience(old, **extra, **inputs)], name, config or None)
    by_server.optim_step(GENTLE)
    output = found.result(WAIT)
    same(logprobs(output), new.tolist(), f"logprobs of {name}")
    value, slope = formula(new, old, advantages(), **{**config, **inputs})
    expect(near(loss(output), value, CLOSE), f"the loss of {name} {config}: found {loss(output)}, wanted {value}")
    expect(all(metric.count(":") == 1 for metric in output.metrics), f"metrics {sorted(output.metrics)}")
    # Cross-entropy with these weights has the same gradient (PROTOCOL 13.1), so both runs must take the same step.
    train(by_hand, [lesson(weights=(-slope).astype(np.float32))], params=GENTLE)
    after = evaluate(by_server)
    same(after, evaluate(by_hand), f"logprobs after a step with {name} {config}")
    differ(after, new.tolist(), f"logprobs before and after a step with {name} {config}", 1e-4)


@check("importance_sampling: value and gradient")
def of_importance_sampling(lab: Lab) -> None:
    judge(lab, "importance_sampling", importance_sampling, {}, 0.5)


@check("ppo: value and gradient, with default and own thresholds, also one per target")
def of_ppo(lab: Lab) -> None:
    own = {"clip_low_threshold": 0.9, "clip_high_threshold": 1.05}
    judge(lab, "ppo", ppo, {}, 0.5)
    judge(lab, "ppo", ppo, own, 0.5)
    judge(lab, "ppo", ppo, own, 0.5, clip_low_threshold=np.linspace(0.5, 1.0, COUNT, dtype=np.float32))


@check("cispo: value and gradient, with default and own thresholds")
def of_cispo(lab: Lab) -> None:
    judge(lab, "cispo", cispo, {}, 0.5)
    judge(lab, "cispo", cispo, {"clip_low_threshold": 0.5, "clip_high_threshold": 3.0}, 0.8)


@check("dro: value and gradient, with default and own beta")
def of_dro(lab: Lab) -> None:
    judge(lab, "dro", dro, {}, 0.5)
    judge(lab, "dro", dro, {"beta": 0.5}, 0.5)


@check("gspo: value and gradient, with a ratio inside and outside the thresholds")
def of_gspo(lab: Lab) -> None:
    judge(lab, "gspo", gspo, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}, 0.3)
    judge(lab, "gspo", gspo, {"clip_low_threshold": 0.98, "clip_high_threshold": 1.02}, 0.5)


@check("a custom loss that is uploaded: the server's value, metrics and gradient are the formula's")
def uploaded(lab: Lab) -> None:
    service = lab.service()
    holder = service.holder
    # The graph that the SDK's tracer, which needs PyTorch, makes of
    #     ratio = torch.exp(logprobs - before)
    #     loss = -(ratio * advantages).sum()
    #     return loss, {"custom/ratio:mean": ratio.mean(), "custom/loss:sum": loss}
    nodes = [
        ("placeholder", "logprobs", "logprobs", []),
        ("placeholder", "before", "before", []),
        ("placeholder", "advantages", "advantages", []),
        ("call_function", "sub", "operator.sub", [{"ref": "logprobs"}, {"ref": "before"}]),
        ("call_function", "exp", "torch.exp", [{"ref": "sub"}]),
        ("call_function", "mul", "operator.mul", [{"ref": "exp"}, {"ref": "advantages"}]),
        ("call_method", "sum_1", "sum", [{"ref": "mul"}]),
        ("call_function", "neg", "operator.neg", [{"ref": "sum_1"}]),
        ("call_method", "mean", "mean", [{"ref": "exp"}]),
    ]
    metrics = {"dict": {"custom/ratio:mean": {"ref": "mean"}, "custom/loss:sum": {"ref": "neg"}}}
    nodes.append(("output", "output", "output", [{"tuple": [{"ref": "neg"}, metrics]}]))
    graph = types.CustomLossGraph(
        nodes=[types.CustomLossNode(op=op, name=name, target=target, args=args) for op, name, target, args in nodes]
    )
    inputs = [types.CustomLossInput(name=name, rank=1) for name in ("logprobs", "before", "advantages")]

    async def upload() -> types.CreateCustomLossResponse:
        promise = await holder._create_custom_loss("policy_gradient", inputs, graph)
        return await _APIFuture(types.CreateCustomLossResponse, holder, promise, 0.0, "CreateCustomLoss")

    loss_id = holder.run_coroutine_threadsafe(upload()).result(WAIT).loss_id
    by_server, by_hand = new_trainer(lab, service), new_trainer(lab)
    new = np.asarray(evaluate(by_server), dtype=np.float64)
    olds = [(new + 0.3 * np.cos(np.arange(COUNT) + turn)).astype(np.float32).astype(np.float64) for turn in range(2)]
    data = [experience(old, before=tensor(old, "float32")) for old in olds]
    found = by_server.forward_backward(data, "custom", {"loss_id": loss_id})
    by_server.optim_step(GENTLE)
    output = found.result(WAIT)
    ratios = [np.exp(new - old) for old in olds]
    value = -sum((ratio * advantages()).sum() for ratio in ratios)
    wanted = {"loss:sum": value, "custom/loss:sum": value, "custom/ratio:mean": sum(r.mean() for r in ratios) / 2}
    for name, number in wanted.items():
        expect(near(output.metrics[name], number, CLOSE), f"{name}: found {output.metrics[name]}, wanted {number}")
    same(logprobs(output), new.tolist() * 2, "logprobs")
    train(by_hand, [lesson(weights=(ratio * advantages()).astype(np.float32)) for ratio in ratios], params=GENTLE)
    same(evaluate(by_server), evaluate(by_hand), "logprobs after the step")


@check("refused losses: unknown names, missing, short and non-finite inputs are the user's fault, and training goes on")
def refused(lab: Lab) -> None:
    wanted = train(new_trainer(lab), [lesson()], 4)
    client = new_trainer(lab)
    found = train(client, [lesson()], 2)
    bare = types.Datum(model_input=types.ModelInput.from_ints(IDS[:-1]), loss_fn_inputs={})
    good = lesson(MORE_WORDS[0])
    for what, datum, name, config in (
        ("an unknown loss", good, "no_such_loss", None),
        ("no targets", bare, "cross_entropy", None),
        ("no advantages", lesson(logprobs=[-1.0] * COUNT), "ppo", None),
        ("no logprobs", lesson(advantages=[1.0] * COUNT), "importance_sampling", None),
        ("weights of another length", lesson(weights=[1.0] * (COUNT - 1)), "cross_entropy", None),
        ("targets of another length", lesson(target_tokens=IDS[2:]), "cross_entropy", None),
        ("weights that are no numbers", lesson(weights=[float("nan")] * COUNT), "cross_entropy", None),
        ("an unknown uploaded loss", good, "custom", {"loss_id": "no-such-loss"}),
    ):
        # The good datum comes first: nothing of a refused pass may stay behind.
        future = client.forward_backward([good, datum], name, config)
        try:
            future.result(WAIT)
        except tinker.RequestFailedError as error:
            equal(error.category.value, "user", f"the category of {what}")
            expect(error.message, f"the message of {what} is empty")
        else:
            raise AssertionError(f"{what} was accepted")
    found += train(client, [lesson()], 2)
    equal(found, wanted, "losses around the refused passes")
