"""Background work: the session poller, cancellation, heartbeats (PROTOCOL 10.2, 15.8, 16.6)."""

from __future__ import annotations

import concurrent.futures
import time

import tinker
from harness import WAIT, Lab, check, equal, expect, until


@check("session poller off: no retrieve_futures")
def poller_off(lab: Lab) -> None:
    mark = lab.control.mark()
    lab.sample(sampler=lab.new_sampler(lab.service()))
    equal(lab.control.requests("retrieve_futures", mark), [], "polls of the session poller")
    equal(len(lab.control.requests("retrieve_future", mark)), 1, "polls of the sample")


@check("session poller on: the same samples, announced by retrieve_futures and acknowledged")
def poller_on(lab: Lab) -> None:
    count = 20
    alone = [lab.sample(seed=seed, stop=[]).sequences[0].tokens for seed in range(count)]
    with lab.flags({"sample_use_retrieve_futures": True}):
        sampler = lab.new_sampler(lab.service())
    mark = lab.control.mark()
    futures = [lab.start(sampler=sampler, seed=seed, stop=[]) for seed in range(count)]
    found = [future.result(WAIT).sequences[0].tokens for future in futures]
    equal(found, alone, "the samples")
    polled = [row["json"]["request_id"] for row in lab.control.requests("retrieve_future", mark)]
    equal((len(polled), len(set(polled))), (count, count), "one fetch per sample")

    def acknowledged() -> set[str]:
        rows = lab.control.requests("retrieve_futures", mark)
        return {name for row in rows for name in row["json"]["retrieved_request_ids"]}

    until(lambda: acknowledged() == set(polled), "every result is acknowledged")
    rows = [row["json"] for row in lab.control.requests("retrieve_futures", mark)]
    target = {"type": "sampling_session", "sampling_session_id": sampler._sampling_session_id, "cloned_sampler_id": 0}
    equal({tuple(sorted(row["target"].items())) for row in rows}, {tuple(sorted(target.items()))}, "the target")
    cursors = [row["prev_cursor"] for row in rows]
    equal(cursors, sorted(cursors), "the cursors")
    expect(len(rows) <= 2 * count + 4, f"{len(rows)} polls for {count} samples: the server does not hold them")


@check("session poller on: a failure and an expired promise come through")
def poller_failures(lab: Lab) -> None:
    with lab.flags({"sample_use_retrieve_futures": True}):
        sampler = lab.new_sampler(lab.service())
    lab.control.post("fail_next", {"category": "user", "message": "failed on purpose"})
    try:
        lab.sample(sampler=sampler)
    except tinker.RequestFailedError as error:
        equal(error.category.value, "user", "the category")
    else:
        raise AssertionError("no error")
    expect(lab.sample(sampler=sampler).sequences[0].tokens, "no sample afterwards")


def abandoned(lab: Lab, enabled: bool) -> list[str]:
    """Cancels a sample that hangs in the service, and returns its request id and the ids the server was told."""
    with lab.flags({}, {"sample_cancel_enabled": enabled}):
        sampler = lab.new_sampler(lab.service())
    mark = lab.control.mark()
    lab.control.post("pause", {"state": "paused_capacity", "seconds": 2.5})
    future = lab.start(sampler=sampler)
    polls = until(lambda: lab.control.requests("retrieve_future", mark), "the sample is polled")
    expect(future.cancel(), "the sample could not be cancelled")
    concurrent.futures.wait([future], WAIT)
    name = polls[0]["json"]["request_id"]
    if enabled:
        until(lambda: lab.control.requests("cancel_future", mark), "the server is told")
    else:
        time.sleep(0.5)
    return [name, *(row["json"]["request_id"] for row in lab.control.requests("cancel_future", mark))]


@check("cancellation on: an abandoned sample is cancelled on the server")
def cancelled(lab: Lab) -> None:
    name, *told = abandoned(lab, enabled=True)
    equal(told, [name], "cancelled requests")


@check("cancellation off: the server is not told")
def not_cancelled(lab: Lab) -> None:
    _, *told = abandoned(lab, enabled=False)
    equal(told, [], "cancelled requests")


@check("heartbeats: the session of the first client has been kept alive")
def heartbeats(lab: Lab) -> None:
    session = lab.main_service.holder.get_session_id()

    def beats() -> int:
        rows = lab.control.requests("session_heartbeat")
        return sum(row["json"] == {"session_id": session, "type": "session_heartbeat"} for row in rows)

    until(lambda: beats() >= 2, "two heartbeats", limit=25)
    equal(lab.log.containing("heartbeat failed"), [], "heartbeat warnings")


@check("JWT off: every request of the run carries the key, none asks for a token")
def static_key(lab: Lab) -> None:
    equal(lab.control.requests("auth/token"), [], "token exchanges")
    without = [row["route"] for row in lab.control.requests() if not row["headers"].get("x-api-key")]
    equal(without, [], "requests without a key")


@check("the server's own verdict: every scripted step was used, nothing was violated")
def verdict(lab: Lab) -> None:
    equal(lab.control.call("GET", "/control/verify"), {"ok": True, "violations": [], "leftovers": []}, "the verdict")
