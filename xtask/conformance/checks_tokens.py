"""Tokens in exchange for the key (PROTOCOL 3.4): every request but two carries one, and a rejected one is replaced.

The server's log does not show credentials, so it is the server that judges: inside `tokens` it takes nothing but tokens it
has issued, except where flags and tokens are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tinker
from harness import Lab, check, equal, expect


@contextmanager
def tokens(lab: Lab, lifetime: float = 3600) -> Iterator[int]:
    """A server that takes tokens of this life only. Yields a mark."""
    mark = lab.control.mark()
    lab.control.post("tokens", {"demand": True, "lifetime_seconds": lifetime})
    try:
        with lab.flags({"pjwt_auth_enabled": True}):
            yield mark
    finally:
        lab.control.post("tokens", {"demand": False, "lifetime_seconds": 3600})


def sample(lab: Lab, sampler: tinker.SamplingClient) -> None:
    expect(lab.sample(sampler=sampler).sequences[0].tokens, "no sample")


@check("tokens on: one exchange, then session, samplers and samples with the token")
def exchange(lab: Lab) -> None:
    with tokens(lab) as mark:
        sample(lab, lab.new_sampler(lab.service()))
        rows = lab.control.requests(since=mark)
    background = ("telemetry", "session_heartbeat")
    routes = [row["route"] for row in rows if row["route"] not in background]
    start = ["client/config", "auth/token", "client/dynamic_config", "create_session", "create_sampling_session"]
    equal(routes[:5], start, "the start-up")
    equal(routes.count("auth/token"), 1, "exchanges")
    equal(lab.control.only("auth/token", mark)["json"], {}, "the body of the exchange")


@check("tokens on: a rejected token is exchanged anew and the same request replayed once")
def replay(lab: Lab) -> None:
    with tokens(lab):
        sampler = lab.new_sampler(lab.service())
        mark = lab.control.mark()
        lab.control.post("revoke_tokens")
        sample(lab, sampler)
    first, second = lab.control.requests("asample", mark)
    for name in ("x-idempotency-key", "x-stainless-retry-count"):
        equal(first["headers"][name], second["headers"][name], f"{name} of the replay")
    equal(first["json"], second["json"], "the body of the replay")
    # Another request of the same client may have been first; whichever it was, one exchange is enough.
    equal(len(lab.control.requests("auth/token", mark)), 1, "exchanges")


@check("tokens on: one that is about to expire is exchanged before it is used")
def near_expiry(lab: Lab) -> None:
    with tokens(lab, lifetime=30) as mark:
        sample(lab, lab.new_sampler(lab.service()))
        exchanges = len(lab.control.requests("auth/token", mark))
    expect(exchanges >= 3, f"{exchanges} exchanges for a start-up and a sample")


@check("tokens on: a refused exchange reaches the caller")
def refused(lab: Lab) -> None:
    with tokens(lab):
        lab.control.post("refuse_exchange", {"status": 401})
        try:
            lab.new_sampler(lab.service())
        except tinker.AuthenticationError as error:
            equal(error.status_code, 401, "the status")
        else:
            raise AssertionError("no error")
        finally:
            lab.control.post("refuse_exchange", {"status": None})
