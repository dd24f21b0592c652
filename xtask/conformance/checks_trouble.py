"""Backpressure, pauses, failures and lost answers (PROTOCOL 7, 15.4, 15.6, 16, 17)."""

from __future__ import annotations

import time

import tinker
from harness import WAIT, Lab, check, equal, expect

GREEDY = {"temperature": 0.0, "max_tokens": 16, "stop": []}


def own_sampler(lab: Lab) -> tinker.SamplingClient:
    """A fresh client: the pause line is limited to one per minute and client."""
    return lab.new_sampler(lab.service())


def wanted(lab: Lab) -> list[int]:
    return lab.sample(**GREEDY).sequences[0].tokens


@check("429: the same sample is sent again after the back-off, with its sequence number")
def backpressure(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    mark = lab.control.mark()
    lab.control.script("asample", [{"status": 429, "headers": {"retry-after-ms": "200"}, "json": {}}])
    start = time.monotonic()
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample after a 429")
    elapsed = time.monotonic() - start
    # 0.38.0 waits one second of its own whatever the server says (PROTOCOL 15.4), checking once per second.
    expect(0.9 <= elapsed < 4, f"waited {elapsed:.2f} s")
    rows = lab.control.requests("asample", mark)
    equal(len(rows), 2, "submissions")
    first, second = rows
    equal(first["json"], second["json"], "the body of the repeated request")
    keys = [row["headers"].get("x-idempotency-key") for row in (first, second)]
    expect(keys[0] != keys[1], "one idempotency key for both")


@check("503: retried with the same sequence number")
def server_error(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    mark = lab.control.mark()
    lab.control.script("asample", [{"status": 503, "json": {"detail": "try later"}}])
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample after a 503")
    equal([row["json"]["seq_id"] for row in lab.control.requests("asample", mark)], [0, 0], "sequence numbers")


@check("connection reset: retried with the same sequence number")
def reset(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    mark = lab.control.mark()
    lab.control.script("asample", [{"fault": "reset"}])
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample after a reset")
    rows = lab.control.requests("asample", mark)
    expect(len(rows) >= 2, "no second request")
    equal({row["json"]["seq_id"] for row in rows}, {0}, "sequence numbers")


@check("the same sequence number sent twice is one sample")
def repeated_submission(lab: Lab) -> None:
    sampler = own_sampler(lab)
    mark = lab.control.mark()
    lab.sample(sampler=sampler, seed=4)
    request = lab.control.only("asample", mark)
    body = {**request["json"], "seq_id": 1, "num_samples": 2}
    headers = {"X-API-Key": "tml-conformance-0123456789"}
    first, second = (lab.control.call("POST", "/api/v1/asample", body, headers) for _ in range(2))
    equal(first["request_id"], second["request_id"], "the request ids")
    equal(first["sample_sequence_ids"], second["sample_sequence_ids"], "the sequence ids")
    equal(len(set(first["sample_sequence_ids"])), 2, "different sequence ids")


def paused(lab: Lab, steps: list[dict[str, object]], line: str) -> None:
    """Plays `steps` on retrieve_future and expects exactly one pause line, and the right sample."""
    sampler, answer = own_sampler(lab), wanted(lab)
    observed: list[tuple[str, str | None]] = []
    built_in = sampler.on_queue_state_change

    def observer(state: object, reason: str | None) -> None:
        observed.append((state.value, reason))
        built_in(state, reason)

    sampler.on_queue_state_change = observer
    mark = lab.control.mark()
    lab.control.script("retrieve_future", steps)
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample after a pause")
    bodies = [step["json"] for step in steps]
    calls = [(body["queue_state"], body.get("queue_state_reason")) for body in bodies]
    equal(observed, [*calls, ("active", None)], "the observer's calls")
    line = f"Sampling is paused for sampler {sampler._sampling_session_id}. Reason: {line}"
    found = lab.log.containing(sampler._sampling_session_id, "WARNING")
    equal([text for text in found if "paused" in text], [line], "pause lines")
    polls = lab.control.requests("retrieve_future", mark)
    numbers = [row["headers"]["x-tinker-request-iteration"] for row in polls]
    equal(numbers, [str(n) for n in range(len(steps) + 1)], "the polls' numbers")
    equal({row["headers"]["x-tinker-request-type"] for row in polls}, {"Sample"}, "the polls' type")


@check("408 with a queue state: polled again, one warning line")
def pause_by_408(lab: Lab) -> None:
    step = {"status": 408, "json": {"queue_state": "paused_rate_limit"}}
    paused(lab, [step, step], "concurrent sampler weights limit hit")


@check("408 with a reason: the server's words are used")
def pause_with_reason(lab: Lab) -> None:
    body = {"queue_state": "paused_capacity", "queue_state_reason": "the cluster is resting"}
    paused(lab, [{"status": 408, "json": body}], "the cluster is resting")


@check("200 try_again with a queue state: polled again, one warning line")
def pause_by_try_again(lab: Lab) -> None:
    body = {"type": "try_again", "request_id": "any", "queue_state": "paused_capacity"}
    paused(lab, [{"status": 200, "json": body}], "Tinker backend is running short on capacity, please wait")


@check("a bare 408 and a 500 on a poll: polled again, no line")
def silent_polls(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    lab.control.script("retrieve_future", [{"status": 408, "json": {}}, {"status": 500, "json": {"detail": "x"}}])
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample")
    equal(lab.log.containing(sampler._sampling_session_id, "WARNING"), [], "warnings")


@check("a pause of the service itself: long polls report it, and the sample completes afterwards")
def service_pause(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    lab.control.post("pause", {"state": "paused_capacity", "reason": "conformance pause", "seconds": 1.5})
    start = time.monotonic()
    equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample after the pause")
    elapsed = time.monotonic() - start
    expect(1.0 <= elapsed < 10, f"the pause lasted {elapsed:.2f} s")
    lines = lab.log.containing(f"paused for sampler {sampler._sampling_session_id}", "WARNING")
    equal(len(lines), 1, f"pause lines {lines}")
    expect(lines[0].endswith("Reason: conformance pause"), lines[0])


@check("failed futures: category, message and request id of every kind, and the client goes on")
def failures(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    for category in ("user", "server", "unknown"):
        mark = lab.control.mark()
        lab.control.post("fail_next", {"category": category, "message": f"failed on purpose: {category}"})
        try:
            lab.sample(sampler=sampler, **GREEDY)
        except tinker.RequestFailedError as error:
            equal(error.category.value, category, "the category")
            expect(f"failed on purpose: {category}" in str(error), f"the message is {error}")
            poll = lab.control.only("retrieve_future", mark)
            equal(error.request_id, poll["json"]["request_id"], "the request id")
        else:
            raise AssertionError(f"no error of category {category}")
        equal(len(lab.control.requests("asample", mark)), 1, f"submissions of a {category} failure")
        equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the next sample")


@check("410 on a poll: the sample is made again under a new sequence number and new ids")
def expired(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    mark = lab.control.mark()
    lab.control.post("expire_next")
    sequence = lab.sample(sampler=sampler, **GREEDY).sequences[0]
    equal(sequence.tokens, answer, "the sample")
    equal([row["json"]["seq_id"] for row in lab.control.requests("asample", mark)], [0, 1], "sequence numbers")
    expect(sequence.sequence_id, "no sequence id")


@check("an unknown request id is a fatal 404")
def unknown_request(lab: Lab) -> None:
    body = {"request_id": "no-such-request", "allow_metadata_only": True}
    equal(lab.control.status("POST", "retrieve_future", body), 404, "the status")


@check("a bad request is refused at once and not repeated")
def bad_request(lab: Lab) -> None:
    sampler = own_sampler(lab)
    mark = lab.control.mark()
    try:
        lab.sample(sampler=sampler, temperature=-1.0)
    except (tinker.APIStatusError, tinker.RequestFailedError) as error:
        expect("temperature" in str(error), f"the message does not name the field: {error}")
    else:
        raise AssertionError("a negative temperature was accepted")
    equal(len(lab.control.requests("asample", mark)), 1, "submissions")
    lab.sample(sampler=sampler, **GREEDY)


@check("large results: announced first, then fetched, with the same sample")
def announced(lab: Lab) -> None:
    sampler, answer = own_sampler(lab), wanted(lab)
    lab.control.post("metadata_threshold", {"bytes": 64})
    mark = lab.control.mark()
    try:
        equal(lab.sample(sampler=sampler, **GREEDY).sequences[0].tokens, answer, "the sample")
    finally:
        lab.control.post("metadata_threshold", {"bytes": 1024 * 1024})
    polls = [row["json"]["allow_metadata_only"] for row in lab.control.requests("retrieve_future", mark)]
    equal(polls, [True, False], "allow_metadata_only of the polls")


@check("no wait in these checks came near its limit")
def within_limits(lab: Lab) -> None:
    # A server that answers long polls too late makes every check slow; a plain sample must take well under a second.
    start = time.monotonic()
    lab.sample(**GREEDY)
    expect(time.monotonic() - start < WAIT / 10, "a plain sample took too long")
