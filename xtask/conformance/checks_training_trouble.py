"""Trouble while training: pauses, failures, lost promises, repeated requests, large results (PROTOCOL 7, 12.4, 16, 17)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tinker
from harness import BASE_MODEL, WAIT, Lab, check, equal, expect, until
from tinker.lib.retryable_exception import RetryableException
from training import ADAM, EXACT, MORE_WORDS, evaluate, lesson, logprobs, loss, new_trainer, run_of, same, train, watched

PAUSED = {"queue_state": "paused_rate_limit", "queue_state_reason": "too many runs"}


def unbroken(lab: Lab, steps: int) -> list[float]:
    """The losses of a run without trouble."""
    return train(new_trainer(lab), [lesson()], steps)


def fails(future: Any, kind: type[Exception]) -> Exception:
    try:
        future.result(WAIT)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check("a pause of the service while training: told with its reason, and everything completes afterwards")
def paused(lab: Lab) -> None:
    wanted = unbroken(lab, 3)
    client = new_trainer(lab)
    lab.control.post("pause", {"state": "paused_capacity", "reason": "conformance pause", "seconds": 0.7})
    start = time.monotonic()
    with watched() as told:
        equal(train(client, [lesson()], 3), wanted, "losses")
    elapsed = time.monotonic() - start
    expect(0.6 <= elapsed < 5, f"the pause lasted {elapsed:.2f} s")
    name = ("Training", client.model_id)
    expect((*name, "paused_capacity", "conformance pause") in told, f"the client was told {told}")
    equal(told[-1], (*name, "active", None), "the last thing it was told")
    equal({entry[:2] for entry in told}, {name}, "who was told")


@check("a pause of one operation: the ones before it complete, it and the ones after it wait")
def paused_once(lab: Lab) -> None:
    client = new_trainer(lab)
    first = client.forward_backward([lesson()], "cross_entropy")
    first.result(WAIT)
    lab.control.post("pause", {"state": "paused_rate_limit", "seconds": 0.5, "next": True})
    start = time.monotonic()
    with watched() as told:
        futures = [client.optim_step(ADAM), client.forward_backward([lesson()], "cross_entropy")]
        for future in futures:
            future.result(WAIT)
    expect(0.4 <= time.monotonic() - start < 5, f"the pause lasted {time.monotonic() - start:.2f} s")
    states = {entry[2] for entry in told}
    equal(states, {"paused_rate_limit", "active"}, "the states")
    expect(loss(futures[1].result(WAIT)) < loss(first.result(WAIT)), "the step did not lower the loss")


@check("every operation that waits is told about its queue, under its own request type")
def told_everywhere(lab: Lab) -> None:
    client = new_trainer(lab)
    path = client.save_state("told").result(WAIT).path
    service = lab.main_service
    creation = ("Model creation", BASE_MODEL)
    training = ("Training", client.model_id)
    sites: list[tuple[str, tuple[str, str] | None, Callable[[], Any]]] = [
        ("CreateModel", creation, lambda: service.create_lora_training_client(BASE_MODEL, rank=2)),
        ("LoadWeights", None, lambda: service.create_training_client_from_state(path)),
        ("Forward", training, lambda: client.forward([lesson()], "cross_entropy")),
        ("ForwardBackward", training, lambda: client.forward_backward([lesson()], "cross_entropy")),
        ("OptimStep", training, lambda: client.optim_step(ADAM)),
        ("SaveWeights", training, lambda: client.save_state("again")),
        ("SaveWeightsForSampler", training, lambda: client.save_weights_for_sampler("told")),
        ("SaveWeightsForSampler", training, client.save_weights_and_get_sampling_client),
        ("SaveWeightsExternal", training, lambda: client.save_weights_external("told-export")),
    ]
    for kind, name, start in sites:
        mark = lab.control.mark()
        lab.control.script("retrieve_future", [{"status": 408, "json": PAUSED}])
        with watched() as told:
            start().result(WAIT)
        polls = lab.control.requests("retrieve_future", mark)
        equal([row["headers"]["x-tinker-request-type"] for row in polls], [kind, kind], f"the polls of {kind}")
        calls = [(state, reason) for _, _, state, reason in told]
        equal(calls, [("paused_rate_limit", "too many runs"), ("active", None)], f"what {kind} was told")
        who = {entry[:2] for entry in told}
        if name is None:
            # The client computes the new run's id itself.
            (name,) = who
            expect(name[0] == "Model creation" and ":train:" in name[1], f"{kind} was told as {name}")
        equal(who, {name}, f"who was told of {kind}")
    # The SDK logs a pause of training only after a quarter of an hour.
    equal(lab.log.containing("is paused. Reason: too many runs"), [], "lines about these pauses")


@check("failed operations: category, message and request id, and later operations are carried out")
def failures(lab: Lab) -> None:
    wanted = unbroken(lab, 4)
    client = new_trainer(lab)
    found = train(client, [lesson()], 2)
    operations: list[tuple[str, Callable[[], Any]]] = [
        ("user", lambda: client.forward_backward([lesson(MORE_WORDS[0])], "cross_entropy")),
        ("server", lambda: client.optim_step(ADAM)),
        ("unknown", lambda: client.save_state("never")),
        ("server", lambda: client.forward([lesson()], "cross_entropy")),
    ]
    for category, start in operations:
        mark = lab.control.mark()
        lab.control.post("fail_next", {"category": category, "message": f"failed on purpose: {category}"})
        error = fails(start(), tinker.RequestFailedError)
        equal(error.category.value, category, "the category")
        expect(f"failed on purpose: {category}" in error.message, f"the message is {error.message}")
        equal(error.request_id, lab.control.only("retrieve_future", mark)["json"]["request_id"], "the request id")
    # A failed pass leaves no gradient, and a failed step takes none.
    found += train(client, [lesson()], 2)
    equal(found, wanted, "losses around the failures")


@check("a failure in the middle of pipelined steps fails that operation alone")
def failure_in_the_middle(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()])
    lab.control.post("fail_next", {"category": "server", "message": "failed on purpose"})
    failing = client.forward_backward([lesson(MORE_WORDS[0])], "cross_entropy")
    followers = [client.forward_backward([lesson()], "cross_entropy"), client.optim_step(ADAM)]
    fails(failing, tinker.RequestFailedError)
    for future in followers:
        future.result(WAIT)
    equal(run_of(lab, client)["seq_ids"], [1, 2, 3, 4, 5], "sequence ids in order of arrival")


@check("a lost promise: the operation fails, is not sent again, and training goes on")
def lost(lab: Lab) -> None:
    client = new_trainer(lab)
    before = train(client, [lesson()])
    mark = lab.control.mark()
    lab.control.post("expire_next")
    fails(client.forward([lesson()], "cross_entropy"), RetryableException)
    equal(len(lab.control.requests("forward_backward", mark)), 1, "submissions")
    after = train(client, [lesson()])
    expect(after[0] < before[0], f"the loss went from {before[0]} to {after[0]}")


@check("submissions that fail on the way are repeated with their sequence id and count once")
def repeated(lab: Lab) -> None:
    wanted = unbroken(lab, 5)
    client = new_trainer(lab)
    mark = lab.control.mark()
    step = {"status": 503, "json": {"detail": "try later"}}
    # One answer is lost after the request was accepted: carrying it out twice would double the gradient.
    lab.control.script("forward_backward", [step, {"behave": True}, {"fault": "lose"}, {"fault": "reset"}])
    lab.control.script("optim_step", [{"behave": True}, {"status": 429, "json": {}}, {"fault": "lose"}])
    equal(train(client, [lesson()], 5), wanted, "losses")
    for route, ids in (("forward_backward", {1, 3, 5, 7, 9}), ("optim_step", {2, 4, 6, 8, 10})):
        rows = [row["seq_id"] for row in lab.control.requests(route, mark)]
        equal(set(rows), ids, f"sequence ids of {route}")
        equal(rows, sorted(rows), f"the order of {route}")
        expect(len(rows) > 5, f"nothing was repeated on {route}")


@check("polls that fail on the way are repeated: 408, 500, 503, try_again and a lost answer")
def repeated_polls(lab: Lab) -> None:
    wanted = unbroken(lab, 2)
    client = new_trainer(lab)
    again = {"type": "try_again", "request_id": "any", "queue_state": "active"}
    steps = [
        {"status": 408, "json": {}},
        {"status": 500, "json": {"detail": "x"}},
        {"status": 503, "text": "overloaded"},
        {"status": 200, "json": again},
    ]
    lab.control.script("retrieve_future", [*steps, {"fault": "lose"}])
    equal(train(client, [lesson()], 2), wanted, "losses")


@check("large results of training: announced first, then fetched, and the same")
def announced(lab: Lab) -> None:
    client = new_trainer(lab)
    wanted = evaluate(client)
    lab.control.post("metadata_threshold", {"bytes": 64})
    mark = lab.control.mark()
    try:
        found = client.forward_backward([lesson()], "cross_entropy").result(WAIT)
    finally:
        lab.control.post("metadata_threshold", {"bytes": 1024 * 1024})
    same(logprobs(found), wanted, "logprobs", EXACT)
    polls = [row["json"]["allow_metadata_only"] for row in lab.control.requests("retrieve_future", mark)]
    equal(polls, [True, False], "allow_metadata_only of the polls")


@check("zstd: compressed passes are smaller and give the same losses")
def compressed(lab: Lab) -> None:
    wanted = unbroken(lab, 2)
    with lab.flags({"proto_compress_fwdbwd": True}):
        client = new_trainer(lab, lab.service())
    plain = new_trainer(lab)
    sizes = []
    for trainer, encoding in ((client, "zstd"), (plain, None)):
        mark = lab.control.mark()
        equal(train(trainer, [lesson()], 2), wanted, f"losses with {encoding}")
        rows = lab.control.requests("forward_backward", mark)
        equal({row["headers"].get("content-encoding") for row in rows}, {encoding}, "the encoding")
        equal({row["headers"]["content-type"] for row in rows}, {"application/x-protobuf"}, "the type")
        sizes.append(rows[0]["body_bytes"])
    expect(sizes[0] < sizes[1], f"{sizes[0]} bytes compressed, {sizes[1]} bytes plain")


@check("a run of a finished session cannot be trained any more")
def finished(lab: Lab) -> None:
    service = lab.service()
    client = new_trainer(lab, service)
    train(client, [lesson()])
    mark = lab.control.mark()
    service.close("success").future().result(WAIT)
    body = {"model_id": client.model_id, "seq_id": 3, "adam_params": ADAM.model_dump(), "type": "optim_step"}
    status = lab.control.status("POST", "optim_step", body)
    expect(400 <= status < 500, f"status {status}")
    equal(len(lab.control.requests("optim_step", mark)), 1, "requests")


@check("a run that nobody made cannot be trained")
def unknown_run(lab: Lab) -> None:
    for route, extra in (("get_info", {}), ("optim_step", {"seq_id": 1, "adam_params": ADAM.model_dump()})):
        status = lab.control.status("POST", route, {"model_id": "no-such:train:0", "type": route, **extra})
        expect(400 <= status < 500, f"status {status} of {route}")


@check("two runs at once: each is carried out in its own order, and neither waits for the other's trouble")
def side_by_side(lab: Lab) -> None:
    wanted = unbroken(lab, 3)
    one, other = new_trainer(lab), new_trainer(lab, rank=4)
    mark = lab.control.mark()
    lab.control.post("pause", {"state": "paused_capacity", "seconds": 600, "next": True})
    held = other.forward_backward([lesson()], "cross_entropy").future()
    until(lambda: lab.control.requests("retrieve_future", mark), "the paused operation was accepted")
    equal(train(one, [lesson()], 3), wanted, "losses of the run that is not held up")
    expect(not held.done(), "the paused operation did not wait")
    expect(held.cancel(), "the paused operation could not be given up")
