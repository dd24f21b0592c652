"""Samples: every sampling parameter, checked by the numbers that come back (PROTOCOL 15.2, 15.3, 19.1)."""

from __future__ import annotations

import math

from harness import Lab, check, equal, expect, near, prompt, text, tokens
from tinker import types

VOCABULARY = 256
# The most alternatives a request may ask for: all tokens but one, whose probability is too small to matter.
WIDEST = VOCABULARY - 1
END_OF_TEXT = 0
WORDS = "The model "


def greedy(lab: Lab, count: int = 24, **options: object) -> types.SampledSequence:
    return lab.sample(WORDS, temperature=0.0, max_tokens=count, stop=[], **options).sequences[0]


@check("sample: one logprob per token, none above 0, length and stop reason fit max_tokens")
def shapes(lab: Lab) -> None:
    for count in (1, 7, 40):
        sequence = greedy(lab, count)
        equal((len(sequence.tokens), sequence.stop_reason), (count, "length"), f"max_tokens {count}")
        equal(len(sequence.logprobs), count, "logprobs")
        expect(all(math.isfinite(value) and value <= 0 for value in sequence.logprobs), f"logprobs {sequence.logprobs}")
        expect(all(0 <= token < VOCABULARY for token in sequence.tokens), f"tokens {sequence.tokens}")


@check("sample: temperature 0 takes the likeliest token at every place")
def temperature_zero(lab: Lab) -> None:
    sequence = greedy(lab, extra={"topk_sample_logprobs": 2})
    for place, row in enumerate(sequence.topk_logprobs):
        equal(sequence.tokens[place], row[0][0], f"the token at {place} of {text(sequence.tokens)!r}")
        expect(near(sequence.logprobs[place], row[0][1]), f"its logprob at {place}")
        expect(row[0][1] >= row[1][1], f"the order of alternatives at {place}")
    equal(greedy(lab).tokens, sequence.tokens, "a second greedy sample")


@check("sample: top_k 1 and a tiny top_p are greedy at any temperature")
def narrow_sampling(lab: Lab) -> None:
    wanted = greedy(lab).tokens
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"top_k": 1, "top_p": 0.5, "temperature": 3.0}):
        found = lab.sample(WORDS, max_tokens=24, stop=[], seed=5, **options).sequences[0].tokens
        equal(found, wanted, f"tokens with {options}")


@check("sample: top_k and top_p limit what can be picked")
def limited_sampling(lab: Lab) -> None:
    extra = {"topk_sample_logprobs": WIDEST}
    for seed in range(3):
        for sequence in lab.sample(WORDS, top_k=3, seed=seed, stop=[], extra=extra, num_samples=3).sequences:
            for place, row in enumerate(sequence.topk_logprobs):
                floor = row[2][1]
                expect(sequence.logprobs[place] >= floor - 1e-5, f"token {place} is not among the 3 likeliest")
        for sequence in lab.sample(WORDS, top_p=0.5, seed=seed, stop=[], extra=extra, num_samples=3).sequences:
            for place, row in enumerate(sequence.topk_logprobs):
                better = sum(math.exp(value) for _, value in row if value > sequence.logprobs[place] + 1e-6)
                expect(better < 0.5 + 1e-3, f"token {place} lies outside the nucleus ({better:.3f} before it)")


@check("sample: the same seed gives the same tokens, another seed others")
def seeds(lab: Lab) -> None:
    draw = {seed: [lab.sample(WORDS, seed=seed, max_tokens=30, stop=[]).sequences[0].tokens for _ in range(2)] for seed in (1, 2, 3)}
    for seed, (first, second) in draw.items():
        equal(first, second, f"seed {seed}")
    equal(len({tuple(first) for first, _ in draw.values()}), 3, "different samples of three seeds")
    free = {tuple(lab.sample(WORDS, max_tokens=30, stop=[]).sequences[0].tokens) for _ in range(3)}
    equal(len(free), 3, "different samples without a seed")


@check("sample: num_samples gives independent sequences with ids of their own")
def many_sequences(lab: Lab) -> None:
    replies = [lab.sample(WORDS, num_samples=5, seed=11, max_tokens=30, stop=[]) for _ in range(2)]
    for reply in replies:
        equal(len(reply.sequences), 5, "sequences")
        equal(len({tuple(sequence.tokens) for sequence in reply.sequences}), 5, "different sequences")
    equal(*[[sequence.tokens for sequence in reply.sequences] for reply in replies], "five sequences of one seed")
    ids = [sequence.sequence_id for reply in replies for sequence in reply.sequences]
    expect(all(ids), f"an empty id in {ids}")
    equal(len(set(ids)), 10, "different sequence ids")


@check("sample: the tokens follow the reported probabilities")
def frequencies(lab: Lab) -> None:
    # One token each, so that the first row of alternatives is the distribution it was drawn from.
    reply = lab.sample(WORDS, num_samples=400, max_tokens=1, seed=3, stop=[], extra={"topk_sample_logprobs": WIDEST})
    row = dict(reply.sequences[0].topk_logprobs[0])
    for token, value in list(row.items())[:3]:
        share = sum(sequence.tokens[0] == token for sequence in reply.sequences) / 400
        # Four standard deviations of a share of 400 draws are at most 0.1.
        expect(abs(share - math.exp(value)) < 0.1, f"token {token}: share {share}, probability {math.exp(value):.3f}")


@check("sample: topk_sample_logprobs over the whole vocabulary is a distribution")
def whole_distribution(lab: Lab) -> None:
    sequence = lab.sample(WORDS, seed=1, max_tokens=6, stop=[], extra={"topk_sample_logprobs": WIDEST}).sequences[0]
    equal(len(sequence.topk_logprobs), 6, "rows")
    for place, row in enumerate(sequence.topk_logprobs):
        equal(len(row), WIDEST, "alternatives")
        expect(near(sum(math.exp(value) for _, value in row), 1, 1e-3), "the probabilities do not sum to 1")
        values = [value for _, value in row]
        equal(values, sorted(values, reverse=True), "the order of alternatives")
        expect(near(dict(row)[sequence.tokens[place]], sequence.logprobs[place]), "the sampled token's logprob")
    equal(greedy(lab).topk_logprobs, None, "alternatives nobody asked for")


@check("sample: a stop string ends the sample behind it")
def stop_strings(lab: Lab) -> None:
    whole = greedy(lab)
    stop = text(whole.tokens[8:11])
    first_end = text(whole.tokens).index(stop) + len(stop)
    for value in (stop, ["\x01never", stop]):
        sequence = lab.sample(WORDS, temperature=0.0, max_tokens=24, stop=value).sequences[0]
        equal(sequence.stop_reason, "stop", f"the reason with stop {value!r}")
        equal(text(sequence.tokens), text(whole.tokens)[:first_end], f"the text with stop {value!r}")
    missed = lab.sample(WORDS, temperature=0.0, max_tokens=24, stop="\x01never").sequences[0]
    equal((missed.stop_reason, len(missed.tokens)), ("length", 24), "a stop that does not occur")


@check("sample: a stop token ends the sample")
def stop_tokens(lab: Lab) -> None:
    whole = greedy(lab).tokens
    stop = whole[6]
    sequence = lab.sample(WORDS, temperature=0.0, max_tokens=24, stop=[255, stop]).sequences[0]
    equal(sequence.stop_reason, "stop", "the reason")
    equal(sequence.tokens, whole[: whole.index(stop) + 1], "the tokens")


@check("sample: the end of text stops by default, and an empty list of stops lets it pass")
def end_of_text(lab: Lab) -> None:
    sequences = lab.sample(WORDS, num_samples=16, seed=2, max_tokens=400).sequences
    ended = [sequence for sequence in sequences if sequence.stop_reason == "stop"]
    expect(ended, "no text of 400 tokens came to an end")
    for sequence in ended:
        equal(sequence.tokens[-1], END_OF_TEXT, "the last token")
        expect(END_OF_TEXT not in sequence.tokens[:-1], "an end of text inside a sample")
    for sequence in lab.sample(WORDS, num_samples=16, seed=2, max_tokens=400, stop=[]).sequences:
        equal((sequence.stop_reason, len(sequence.tokens)), ("length", 400), "a sample without any stop")


@check("sample: several chunks of text are one prompt")
def chunks(lab: Lab) -> None:
    ids = tokens(WORDS)
    split = types.ModelInput(
        chunks=[types.EncodedTextChunk(tokens=ids[:3]), types.EncodedTextChunk(tokens=ids[3:])]
    )
    found = lab.sample(split, temperature=0.0, max_tokens=24, stop=[]).sequences[0]
    equal(found.tokens, greedy(lab).tokens, "tokens of a split prompt")


@check("sample: sampled logprobs equal compute_logprobs of the continuation")
def continuation(lab: Lab) -> None:
    ids = tokens(WORDS)
    for seed in range(3):
        sequence = lab.sample(WORDS, seed=seed, max_tokens=20, stop=[]).sequences[0]
        whole = types.ModelInput.from_ints(ids + list(sequence.tokens))
        scored = lab.sampler.compute_logprobs(whole).result(20)[len(ids) :]
        for place, (sampled, computed) in enumerate(zip(sequence.logprobs, scored, strict=True)):
            expect(near(sampled, computed), f"seed {seed}, place {place}: sampled {sampled}, computed {computed}")


@check("sample: every parameter reaches the server as the protocol writes it")
def on_the_wire(lab: Lab) -> None:
    sampler = lab.new_sampler(lab.main_service, record_stability_info=True)
    ids = tokens(WORDS)
    target = types.TensorData(data=[-1] * (len(ids) - 2) + [65], dtype="int64", shape=[len(ids) - 1, 1])
    mark = lab.control.mark()
    reply = lab.sample(
        WORDS,
        sampler=sampler,
        num_samples=2,
        max_tokens=5,
        seed=9,
        stop=["."],
        temperature=0.5,
        top_k=40,
        top_p=0.9,
        extra={
            "include_prompt_logprobs": True,
            "topk_prompt_logprobs": 2,
            "topk_sample_logprobs": 3,
            "target_prompt_logprobs": target,
            "prompt_alt_tokens_k": 4,
            "prompt_logprobs_last_n": 3,
        },
    )
    request = lab.control.only("asample", mark)
    body = request["json"]
    equal(
        body["sampling_params"],
        {"max_tokens": 5, "seed": 9, "stop": ["."], "temperature": 0.5, "top_k": 40, "top_p": 0.9},
        "sampling_params",
    )
    names = ["num_samples", "prompt_logprobs", "topk_prompt_logprobs", "topk_sample_logprobs", "prompt_alt_tokens_k"]
    names += ["prompt_logprobs_last_n", "record_stability_info", "type", "seq_id"]
    equal([body[name] for name in names], [2, True, 2, 3, 4, 3, True, "sample", 0], str(names))
    equal(body["prompt"], {"chunks": [{"tokens": ids, "type": "encoded_text"}]}, "prompt")
    equal(body["target_prompt_logprobs"]["shape"], [len(ids) - 1, 1], "the shape of the targets")
    equal(request["headers"].get("x-tinker-sampling-backpressure"), "1", "the backpressure header")
    # And everything asked for together comes back together.
    equal(len(reply.sequences), 2, "sequences")
    equal([len(row) for row in reply.sequences[0].topk_logprobs], [3] * len(reply.sequences[0].tokens), "alternatives")
    equal([value is None for value in reply.prompt_logprobs], [True] * (len(ids) - 3) + [False] * 3, "prompt logprobs")
    equal(reply.target_prompt_logprobs.shape, [len(ids) - 1, 1], "target logprobs")
    equal(reply.prompt_alt_tokens.tokens.shape, [len(ids) - 1, 4], "alternative tokens")
    expect(reply.prompt_cache_hit_tokens >= 0, "cache hits")


@check("sample: without extras no extra field comes back")
def nothing_extra(lab: Lab) -> None:
    reply = lab.sample(prompt(WORDS))
    found = (reply.prompt_logprobs, reply.topk_prompt_logprobs, reply.target_prompt_logprobs, reply.prompt_alt_tokens)
    equal(found, (None,) * 4, "fields nobody asked for")
