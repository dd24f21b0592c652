"""The second process of `checks_processes`: opens a client from standard input, samples twice, prints the tokens."""

from __future__ import annotations

import base64
import faulthandler
import json
import pickle
import sys

import tinker
from tinker import types

LIMIT = 25


def main() -> None:
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    kind, seed = sys.argv[1], int(sys.argv[2])
    data = sys.stdin.read().strip()
    if kind == "pickle":
        client = pickle.loads(base64.b64decode(data))  # noqa: S301  made by our own parent
    else:
        client = tinker.SamplingClient.from_sampler_handle(data)
    samples = []
    for _ in range(2):
        params = types.SamplingParams(max_tokens=12, seed=seed, stop=[])
        prompt = types.ModelInput.from_ints(list(b"The model "))
        sequence = client.sample(prompt, 1, params).result(LIMIT).sequences[0]
        samples.append({"tokens": list(sequence.tokens), "sequence_id": sequence.sequence_id})
    print(json.dumps(samples))


if __name__ == "__main__":
    main()
