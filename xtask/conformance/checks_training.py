"""Training: creating runs, the order of operations, chunks, optimizers, and a text that is learned (PROTOCOL 11, 12)."""

from __future__ import annotations

import re

import tinker
from harness import BASE_MODEL, WAIT, Lab, check, equal, expect, near, text, tokens, until
from tinker import types
from training import (
    ADAM,
    CLOSE,
    EXACT,
    GENTLE,
    MORE_WORDS,
    RANK,
    SEED,
    WORDS,
    differ,
    evaluate,
    lesson,
    lessons,
    logprobs,
    loss,
    new_trainer,
    run_of,
    same,
    train,
)


def numbers(lab: Lab, mark: int) -> list[int]:
    """The sequence ids of passes and steps, in order of arrival."""
    rows = lab.control.requests("forward_backward", mark) + lab.control.requests("optim_step", mark)
    return [row["seq_id"] for row in sorted(rows, key=lambda row: row["index"])]


@check("create: rank, seed, flags, optimizer and metadata reach the server; get_info tells them back")
def created(lab: Lab) -> None:
    service = lab.service()
    session = service.holder.get_session_id()
    mark = lab.control.mark()
    client = new_trainer(lab, service, rank=4, seed=5, train_attn=False, user_metadata={"purpose": "conformance"})
    equal(
        lab.control.only("create_model", mark)["json"],
        {
            "session_id": session,
            "model_seq_id": 0,
            "base_model": BASE_MODEL,
            "user_metadata": {"purpose": "conformance"},
            "lora_config": {"rank": 4, "seed": 5, "train_unembed": True, "train_mlp": True, "train_attn": False},
            "optimizer_config": {"type": "adamw"},
            "type": "create_model",
        },
        "the body of create_model",
    )
    equal(client.model_id, f"{session}:train:0", "the model id")
    asked = lab.control.only("get_info", mark)["json"]
    equal(asked, {"model_id": client.model_id, "type": "get_info"}, "the body of get_info")
    info = client.get_info()
    equal((info.model_id, info.is_lora, info.lora_rank), (client.model_id, True, 4), "model id, is_lora and rank")
    equal((info.model_data.model_name, info.model_name), (BASE_MODEL, BASE_MODEL), "the model's name")
    equal(info.optimizer_config.type, "adamw", "the optimizer")
    polls = lab.control.requests("retrieve_future", mark)
    equal({row["headers"]["x-tinker-request-type"] for row in polls}, {"CreateModel"}, "the polls' type")


@check("create: runs of a session are numbered, and a Dimuon run says so")
def created_again(lab: Lab) -> None:
    service = lab.service()
    clients = [new_trainer(lab, service), new_trainer(lab, service, optimizer=types.DimuonOptimizerConfig())]
    found = [re.fullmatch(r"(.+):train:(\d+)", client.model_id).groups() for client in clients]
    session = service.holder.get_session_id()
    equal(found, [(session, "0"), (session, "1")], "session and number of the model ids")
    kinds = [client.get_info().optimizer_config.model_dump() for client in clients]
    equal(kinds, [{"type": "adamw"}, {"type": "dimuon", "version": 1}], "the optimizers")
    equal([client.get_info().lora_rank for client in clients], [RANK, RANK], "the ranks")


@check("create: an unknown base model and a rank of 0 are refused by the server")
def refused(lab: Lab) -> None:
    for options, part in (({"base_model": "nobody/no-such-model"}, "no-such-model"), ({"rank": 0}, "rank")):
        try:
            new_trainer(lab, **options)
        except tinker.APIStatusError as error:
            expect(400 <= error.status_code < 500, f"status {error.status_code}")
            expect(part in str(error), f"the message does not name {part}: {error}")
        except tinker.RequestFailedError as error:
            equal(error.category.value, "user", "the category")
            expect(part in str(error), f"the message does not name {part}: {error}")
        else:
            raise AssertionError(f"{options} were accepted")


@check("create: with nothing to train, and training without data, fail before anything is sent")
def refused_locally(lab: Lab) -> None:
    client = new_trainer(lab)
    mark = lab.control.mark()
    try:
        new_trainer(lab, train_mlp=False, train_attn=False, train_unembed=False)
    except AssertionError as error:
        expect("At least one of" in str(error), f"the message is {error}")
    else:
        raise ValueError("a run that trains nothing was accepted")
    for call in (client.forward, client.forward_backward):
        try:
            call([], "cross_entropy")
        except ValueError:
            continue
        raise AssertionError(f"{call.__name__} without data was accepted")
    for route in ("create_model", "forward_backward"):
        equal(lab.control.requests(route, mark), [], f"requests to {route}")


@check("pipelining: 20 steps are sent before the first result, in order and without gaps, and the loss falls")
def pipelined(lab: Lab) -> None:
    client = new_trainer(lab)
    mark = lab.control.mark()
    steps = 20
    passes, updates = [], []
    # Nothing is worked on until all requests are there, so no request can have waited for a result.
    lab.control.post("pause", {"state": "paused_capacity"})
    try:
        for _ in range(steps):
            passes.append(client.forward_backward([lesson()], "cross_entropy").future())
            updates.append(client.optim_step(ADAM).future())
        until(lambda: len(numbers(lab, mark)) >= 2 * steps, "all requests are sent")
        equal([future.done() for future in passes + updates], [False] * 2 * steps, "finished operations")
    finally:
        lab.control.post("resume")
    losses = [loss(future.result(WAIT)) for future in passes]
    for future in updates:
        future.result(WAIT)
    ids = list(range(1, 2 * steps + 1))
    equal(numbers(lab, mark), ids, "sequence ids in order of arrival")
    run = run_of(lab, client)
    equal((run["executed"], run["gaps"], run["steps"]), (ids, [], steps), "ids in order of execution, gaps and steps")
    expect(losses[0] > 2.0 * len(WORDS), f"the loss begins at {losses[0]}")
    expect(losses[-1] < losses[0] / 4, f"the loss went from {losses[0]} to {losses[-1]} only")
    polls = lab.control.requests("retrieve_future", mark)
    kinds = {row["headers"]["x-tinker-request-type"] for row in polls}
    equal(kinds, {"ForwardBackward", "OptimStep"}, "the polls' types")


@check("pipelining: steps that are waited for one by one give the same losses")
def stepwise(lab: Lab) -> None:
    wanted = train(new_trainer(lab), [lesson()], 4)
    client = new_trainer(lab)
    found = [train(client, [lesson()])[0] for _ in range(4)]
    equal(found, wanted, "losses")


@check("runs: the same seed gives the same losses, another seed others, and runs leave each other alone")
def isolated(lab: Lab) -> None:
    wanted = train(new_trainer(lab), [lesson()], 3)
    first, other = new_trainer(lab), new_trainer(lab, seed=SEED + 1)
    found = []
    for _ in range(3):
        found += train(first, [lesson()])
        train(other, [lesson(MORE_WORDS[0])])
    equal(found, wanted, "losses beside another run")
    # Fresh adapters change nothing, whatever their seed; the first step tells them apart.
    differ(train(new_trainer(lab, seed=SEED + 2), [lesson()], 3)[1:], wanted[1:], "losses of two seeds", 1e-4)


@check("the adapter starts as the base model: the first loss is the base model's")
def starts_as_base(lab: Lab) -> None:
    found = evaluate(new_trainer(lab))
    wanted = lab.sampler.compute_logprobs(types.ModelInput.from_ints(tokens(WORDS))).result(WAIT)[1:]
    same(found, wanted, "logprobs")


@check("the gradient: two passes before a step count together, as one pass over both data does")
def accumulated(lab: Lab) -> None:
    first, second = lesson(), lesson(MORE_WORDS[1])
    together, apart, half = (new_trainer(lab) for _ in range(3))
    train(together, [first, second], params=GENTLE)
    for datum in (first, second):
        apart.forward_backward([datum], "cross_entropy")
    apart.optim_step(GENTLE)
    train(half, [second], params=GENTLE)
    same(evaluate(apart), evaluate(together), "logprobs after the step")
    differ(evaluate(half), evaluate(together), "logprobs after a step with half of the data")


@check("the gradient: a step uses it up, so a second step without a pass does not repeat it")
def used_up(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], params=GENTLE)
    before = evaluate(client)
    # Without momentum nothing but the gradient could move the weights.
    client.optim_step(types.AdamParams(**{**GENTLE.model_dump(), "beta1": 0.0})).result(WAIT)
    same(evaluate(client), before, "logprobs after a step without a gradient", EXACT)


@check("forward: the same output as forward_backward, and no gradient")
def forward_only(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, lessons(), 2)
    mark = lab.control.mark()
    found = client.forward(lessons(), "cross_entropy").result(WAIT)
    polls = lab.control.requests("retrieve_future", mark)
    equal({row["headers"]["x-tinker-request-type"] for row in polls}, {"Forward"}, "the polls' type")
    client.optim_step(types.AdamParams(learning_rate=0.5, beta1=0.0)).result(WAIT)
    again = client.forward_backward(lessons(), "cross_entropy").result(WAIT)
    same(logprobs(again), logprobs(found), "logprobs after a step behind forward alone", EXACT)
    equal(again.metrics, found.metrics, "metrics")
    equal(again.loss_fn_output_type, found.loss_fn_output_type, "the output's type")


@check("the output: a float32 logprob per target, metrics named by their reduction, loss the sum of −logprob × weight")
def output(lab: Lab) -> None:
    weights = [[0.5 + place % 3 for place in range(len(words) - 1)] for words in (WORDS, *MORE_WORDS)]
    data = [lesson(words, weights=row) for words, row in zip((WORDS, *MORE_WORDS), weights, strict=True)]
    found = new_trainer(lab).forward_backward(data, "cross_entropy").result(WAIT)
    equal(len(found.loss_fn_outputs), len(data), "outputs")
    wanted = 0.0
    for outputs, row in zip(found.loss_fn_outputs, weights, strict=True):
        tensor = outputs["logprobs"]
        equal((tensor.dtype, tensor.shape), ("float32", [len(row)]), "the layout of logprobs")
        wanted -= sum(value * weight for value, weight in zip(tensor.data, row, strict=True))
    expect(near(loss(found), wanted, CLOSE), f"the loss: found {loss(found)}, wanted {wanted}")
    expect(all(name.count(":") == 1 for name in found.metrics), f"metrics {sorted(found.metrics)}")


def chunked(lab: Lab, parallel: bool) -> list[int]:
    """One pass over four data in two chunks, and a step; the sequence ids in order of arrival."""
    with lab.flags({"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": parallel}):
        client = new_trainer(lab, lab.service())
    found = client.forward_backward(lessons(), "cross_entropy")
    update = client.optim_step(GENTLE)
    combined = found.result(WAIT)
    update.result(WAIT)
    run = run_of(lab, client)
    equal((run["executed"], run["gaps"]), ([1, 2, 3], []), "sequence ids in order of execution, and gaps")
    whole = new_trainer(lab)
    wanted = whole.forward_backward(lessons(), "cross_entropy").result(WAIT)
    whole.optim_step(GENTLE).result(WAIT)
    shapes = [outputs["logprobs"].shape for outputs in combined.loss_fn_outputs]
    equal(shapes, [[len(words) - 1] for words in (WORDS, *MORE_WORDS)], "the order of outputs")
    same(logprobs(combined), logprobs(wanted), "logprobs")
    equal(sorted(combined.metrics), sorted(wanted.metrics), "the metrics' names")
    for name, value in wanted.metrics.items():
        expect(near(combined.metrics[name], value, CLOSE), f"{name}: {combined.metrics[name]}, in one chunk {value}")
    same(evaluate(client, lessons()), evaluate(whole, lessons()), "logprobs after the step")
    return run["seq_ids"]


@check("two chunks, in parallel: the first is sent last, and both combine to what one chunk gives")
def parallel_chunks(lab: Lab) -> None:
    equal(chunked(lab, parallel=True), [2, 1, 3], "sequence ids in order of arrival")


@check("two chunks, one after the other: the same result")
def serial_chunks(lab: Lab) -> None:
    equal(chunked(lab, parallel=False), [1, 2, 3], "sequence ids in order of arrival")


@check("Adam: all its numbers are sent; weight decay takes the adapter back to the base model")
def weight_decay(lab: Lab) -> None:
    client = new_trainer(lab)
    base = evaluate(client)
    train(client, [lesson()], 3)
    differ(evaluate(client), base, "logprobs after training")
    mark = lab.control.mark()
    # No momentum and no gradient: only the decay is left, and learning rate × decay = 1 takes all of it.
    params = {"learning_rate": 0.5, "beta1": 0.0, "beta2": 0.9, "eps": 1e-8, "weight_decay": 2.0, "grad_clip_norm": 0.0}
    client.optim_step(types.AdamParams(**params)).result(WAIT)
    equal(lab.control.only("optim_step", mark)["json"]["adam_params"], params, "adam_params")
    same(evaluate(client), base, "logprobs after the decay")


@check("Adam: the gradient is clipped to its greatest norm")
def clipped(lab: Lab) -> None:
    def after(**changes: float) -> tuple[list[float], dict[str, float]]:
        client = new_trainer(lab)
        client.forward_backward([lesson()], "cross_entropy")
        update = client.optim_step(types.AdamParams(**{**GENTLE.model_dump(), **changes})).result(WAIT)
        return evaluate(client), update.metrics or {}

    plain, metrics = after()
    norm = metrics["grad_norm:mean"]
    expect(norm > 0, f"the gradient's norm is {norm}")
    # These steps are proportional to gradient and learning rate, so half of either is the same.
    half, _ = after(learning_rate=GENTLE.learning_rate / 2)
    same(after(grad_clip_norm=norm / 2)[0], half, "logprobs with half of the gradient", 1e-4)
    same(after(grad_clip_norm=norm * 2)[0], plain, "logprobs with a limit above the gradient")
    differ(plain, half, "logprobs of a whole and a half step")


@check("Dimuon: its numbers are sent, and the loss falls")
def dimuon(lab: Lab) -> None:
    client = new_trainer(lab, optimizer=types.DimuonOptimizerConfig())
    mark = lab.control.mark()
    losses = train(client, [lesson()], 20, types.DimuonParams(learning_rate=0.05, beta1=0.5))
    expect(losses[-1] < losses[0] / 2, f"the loss went from {losses[0]} to {losses[-1]} only")
    bodies = [row["json"] for row in lab.control.requests("optim_step", mark)]
    sent = {"type": "dimuon", "learning_rate": 0.05, "grad_clip_norm": 0.0, "beta1": 0.5}
    equal([body["optimizer_params"] for body in bodies], [sent] * 20, "optimizer_params")
    expect(all("adam_params" not in body for body in bodies), "adam_params were sent too")


@check("a text is learned: greedy sampling gives it afterwards, and did not before")
def learned(lab: Lab) -> None:
    client = new_trainer(lab)
    start, rest = WORDS[:8], WORDS[8:]

    def greedy(sampler: tinker.SamplingClient) -> str:
        reply = lab.sample(start, sampler=sampler, temperature=0.0, max_tokens=len(rest), stop=[])
        return text(reply.sequences[0].tokens)

    expect(greedy(client.save_weights_and_get_sampling_client().result(WAIT)) != rest, "the base model knows it")
    train(client, [lesson()], 30)
    equal(greedy(client.save_weights_and_get_sampling_client().result(WAIT)), rest, "the sampled text")
