"""Many samples at once on one client (PROTOCOL 15.4)."""

from __future__ import annotations

from harness import WAIT, Lab, check, equal, expect

COUNT = 50


@check(f"{COUNT} samples at once: all right, every sequence number once")
def fan_out(lab: Lab) -> None:
    sampler = lab.new_sampler(lab.service())
    alone = {seed: lab.sample(seed=seed, stop=[]).sequences[0].tokens for seed in range(COUNT)}
    mark = lab.control.mark()
    futures = {seed: lab.start(sampler=sampler, seed=seed, stop=[]) for seed in range(COUNT)}
    replies = {seed: future.result(WAIT) for seed, future in futures.items()}
    for seed, reply in replies.items():
        equal(reply.sequences[0].tokens, alone[seed], f"the sample with seed {seed}")
    numbers = sorted(row["json"]["seq_id"] for row in lab.control.requests("asample", mark))
    equal(numbers, list(range(COUNT)), "sequence numbers")
    ids = {reply.sequences[0].sequence_id for reply in replies.values()}
    equal(len(ids), COUNT, "different sequence ids")


@check(f"{COUNT} samples at once with 429s among them: none is lost or doubled")
def fan_out_with_backpressure(lab: Lab) -> None:
    sampler = lab.new_sampler(lab.service())
    mark = lab.control.mark()
    busy = {"status": 429, "json": {}}
    lab.control.script("asample", [{"behave": True}] * 10 + [busy] * 5)
    futures = [lab.start(sampler=sampler, seed=seed, max_tokens=4) for seed in range(COUNT)]
    ids = {future.result(WAIT).sequences[0].sequence_id for future in futures}
    equal(len(ids), COUNT, "different sequence ids")
    rows = lab.control.requests("asample", mark)
    equal(len(rows), COUNT + 5, "submissions, the refused ones included")
    equal(sorted({row["json"]["seq_id"] for row in rows}), list(range(COUNT)), "sequence numbers")


@check("large prompts: 32k tokens are scored and sampled")
def large_prompt(lab: Lab) -> None:
    words = "A long text is read from its beginning to its end. " * 640
    reply = lab.sample(words, max_tokens=4, extra={"include_prompt_logprobs": True})
    equal(len(reply.prompt_logprobs), len(words), "prompt logprobs")
    expect(all(value <= 0 for value in reply.prompt_logprobs[1:]), "a logprob above 0")
