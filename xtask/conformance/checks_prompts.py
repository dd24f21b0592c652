"""What the model thinks of a prompt: logprobs, alternatives, targets (PROTOCOL 15.2, 19.1, 19.2)."""

from __future__ import annotations

import math

from harness import WAIT, Lab, check, equal, expect, near, prompt, tokens
from tinker import types

# The most alternatives a request may ask for: all tokens but one, whose probability is too small to matter.
WIDEST = 255
WORDS = "The model reads a line of text."
IDS = tokens(WORDS)
ROWS = len(IDS) - 1


def scored(lab: Lab, **extra: object) -> types.SampleResponse:
    return lab.sample(WORDS, max_tokens=1, extra=extra)


def logprobs(lab: Lab) -> list[float | None]:
    return lab.sampler.compute_logprobs(prompt(WORDS)).result(WAIT)


def same(found: list[float], wanted: list[float], what: str) -> None:
    equal(len(found), len(wanted), f"the number of {what}")
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        expect(near(one, other), f"{what} at {place}: found {one}, wanted {other}")


@check("compute_logprobs: one per token, none for the first, none above 0")
def computed(lab: Lab) -> None:
    found = logprobs(lab)
    equal(len(found), len(IDS), "entries")
    equal(found[0], None, "the first entry")
    expect(all(value is not None and value <= 0 for value in found[1:]), f"entries {found}")
    expect(len(set(found[1:])) > ROWS // 2, "the entries hardly differ")


@check("prompt logprobs of a sample equal compute_logprobs")
def in_a_sample(lab: Lab) -> None:
    found = scored(lab, include_prompt_logprobs=True).prompt_logprobs
    equal(found[0], None, "the first entry")
    same(found[1:], logprobs(lab)[1:], "prompt logprobs")


@check("prompt_logprobs_last_n: only the last places are scored, with the same numbers")
def last_places(lab: Lab) -> None:
    whole = logprobs(lab)
    for count in (1, 4, ROWS):
        found = lab.sampler.compute_logprobs(prompt(WORDS), prompt_logprobs_last_n=count).result(WAIT)
        equal(found[: len(IDS) - count], [None] * (len(IDS) - count), f"places before the last {count}")
        same(found[-count:], whole[-count:], f"last {count} logprobs")
    reply = scored(lab, include_prompt_logprobs=True, prompt_logprobs_last_n=2, topk_prompt_logprobs=2)
    equal([row is None for row in reply.topk_prompt_logprobs], [True] * (len(IDS) - 2) + [False] * 2, "rows")


@check("topk_prompt_logprobs: sorted, a distribution when complete, and in line with the prompt's own logprobs")
def alternatives(lab: Lab) -> None:
    own = logprobs(lab)
    rows = scored(lab, include_prompt_logprobs=True, topk_prompt_logprobs=WIDEST).topk_prompt_logprobs
    equal((len(rows), rows[0]), (len(IDS), None), "rows, and the first one")
    for place, row in enumerate(rows[1:], start=1):
        values = [value for _, value in row]
        equal(values, sorted(values, reverse=True), f"the order at {place}")
        expect(near(sum(map(math.exp, values)), 1, 1e-3), f"the probabilities at {place} do not sum to 1")
        expect(near(dict(row)[IDS[place]], own[place]), f"the prompt's own token at {place}")
    short = scored(lab, include_prompt_logprobs=True, topk_prompt_logprobs=3).topk_prompt_logprobs
    for place, row in enumerate(short[1:], start=1):
        equal(row, rows[place][:3], f"the three likeliest at {place}")


@check("target_prompt_logprobs, dense: the named tokens are scored, other cells are 0")
def targets(lab: Lab) -> None:
    own = logprobs(lab)[1:]
    cells = [cell for token in IDS[1:] for cell in (token, -1)]
    target = types.TensorData(data=cells, dtype="int64", shape=[ROWS, 2])
    found = scored(lab, target_prompt_logprobs=target).target_prompt_logprobs
    equal((found.dtype, found.shape, found.sparse_crow_indices), ("float32", [ROWS, 2], None), "layout")
    same(found.data[0::2], own, "target logprobs")
    equal(found.data[1::2], [0.0] * ROWS, "cells that ask nothing")


@check("target_prompt_logprobs, sparse: the answer keeps the layout of the question")
def sparse_targets(lab: Lab) -> None:
    own = logprobs(lab)
    # One cell in row 2 (column 1) and two in the last row.
    crow = [0] * 3 + [1] * (ROWS - 3) + [3]
    last = IDS[ROWS]
    target = types.TensorData(
        data=[IDS[3], last, 32],
        dtype="int64",
        shape=[ROWS, 3],
        sparse_crow_indices=crow,
        sparse_col_indices=[1, 0, 2],
    )
    found = scored(lab, target_prompt_logprobs=target).target_prompt_logprobs
    equal((found.shape, list(found.sparse_crow_indices)), ([ROWS, 3], crow), "rows")
    equal(list(found.sparse_col_indices), [1, 0, 2], "columns")
    row = dict(scored(lab, topk_prompt_logprobs=WIDEST, include_prompt_logprobs=True).topk_prompt_logprobs[ROWS])
    same(found.data, [own[3], own[ROWS], row[32]], "sparse target logprobs")


@check("prompt_alt_tokens_k: k draws per place, with the model's logprobs for them")
def drawn_alternatives(lab: Lab) -> None:
    width = 6
    found = scored(lab, prompt_alt_tokens_k=width).prompt_alt_tokens
    equal((found.tokens.dtype, found.tokens.shape), ("int64", [ROWS, width]), "the tokens' layout")
    equal((found.logprobs.dtype, found.logprobs.shape), ("float32", [ROWS, width]), "the logprobs' layout")
    again = scored(lab, target_prompt_logprobs=found.tokens).target_prompt_logprobs
    same(found.logprobs.data, again.data, "logprobs of alternatives")


@check("prompt_alt_tokens_k: draws are independent, so a likely token comes up more than once")
def independent_draws(lab: Lab) -> None:
    width = 64
    drawn = scored(lab, prompt_alt_tokens_k=width).prompt_alt_tokens.tokens.data
    rows = scored(lab, include_prompt_logprobs=True, topk_prompt_logprobs=1).topk_prompt_logprobs
    for place in range(1, len(IDS)):
        ((likeliest, value),) = rows[place]
        share = drawn[(place - 1) * width : place * width].count(likeliest) / width
        # Five standard deviations of a share of 64 draws are at most 0.32.
        expect(abs(share - math.exp(value)) < 0.32, f"place {place}: share {share}, probability {math.exp(value):.2f}")


@check("prompt questions that cannot be answered are refused before anything is sent")
def refused_locally(lab: Lab) -> None:
    mark = lab.control.mark()
    flat = types.TensorData(data=[1, 2], dtype="int64", shape=[2])
    real = types.TensorData(data=[1.0], dtype="float32", shape=[1, 1])
    for extra in (
        {"prompt_alt_tokens_k": -1},
        {"prompt_logprobs_last_n": 2},
        {"prompt_logprobs_last_n": 0, "include_prompt_logprobs": True},
        {"target_prompt_logprobs": flat},
        {"target_prompt_logprobs": real},
    ):
        try:
            scored(lab, **extra)
        except ValueError:
            continue
        raise AssertionError(f"{extra} was accepted")
    equal(lab.control.requests("asample", mark), [], "requests")
