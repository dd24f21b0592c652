"""Checkpoints, sampler weights and copies: what is saved is what was trained (PROTOCOL 14)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import tinker
from harness import API_KEY, BASE_MODEL, WAIT, Lab, check, equal, expect, tokens
from tinker import types
from training import MORE_WORDS, RANK, WORDS, differ, evaluate, lesson, new_trainer, same, train

HOUR = 3600


def path_of(client: tinker.TrainingClient, segment: str, name: str) -> str:
    return f"tinker://{client.model_id}/{segment}/{name}"


def score(sampler: tinker.SamplingClient) -> list[float]:
    """The sampler's logprobs of the text that is trained on."""
    return sampler.compute_logprobs(types.ModelInput.from_ints(tokens(WORDS))).result(WAIT)[1:]


@contextmanager
def user_error(part: str) -> Iterator[None]:
    """The block must fail with an error of the user that contains `part`."""
    try:
        yield
    except tinker.RequestFailedError as error:
        equal(error.category.value, "user", "the category")
        expect(part in error.message, f"the message does not contain {part!r}: {error.message}")
    except tinker.APIStatusError as error:
        expect(400 <= error.status_code < 500, f"status {error.status_code}")
        expect(part in str(error), f"the message does not contain {part!r}: {error}")
    else:
        raise AssertionError(f"no error about {part}")


def half_way(lab: Lab) -> tuple[tinker.TrainingClient, str, list[float]]:
    """A run that was saved after some steps and went on: the run, the checkpoint, and the losses after it."""
    client = new_trainer(lab)
    train(client, [lesson()], 4)
    saved = client.save_state("half-way")
    losses = train(client, [lesson()], 4)
    return client, saved.result(WAIT).path, losses


@check("save_state: the request's fields, and a path of the run")
def saved(lab: Lab) -> None:
    client = new_trainer(lab)
    mark = lab.control.mark()
    plain = client.save_state("plain").result(WAIT)
    full = client.save_state("full", ttl_seconds=HOUR, overwrite=True, user_metadata={"step": "2"}).result(WAIT)
    equal((plain.path, full.path), (path_of(client, "weights", "plain"), path_of(client, "weights", "full")), "paths")
    always = {"model_id": client.model_id, "type": "save_weights"}
    bodies = [row["json"] for row in lab.control.requests("save_weights", mark)]
    equal(bodies[0], {**always, "seq_id": 1, "path": "plain", "overwrite": False}, "the plain body")
    extra = {"path": "full", "overwrite": True, "ttl_seconds": HOUR, "user_metadata": {"step": "2"}}
    equal(bodies[1], {**always, "seq_id": 2, **extra}, "the full body")
    polls = lab.control.requests("retrieve_future", mark)
    equal({row["headers"]["x-tinker-request-type"] for row in polls}, {"SaveWeights"}, "the polls' type")


@check("save_state: a used name is refused and its checkpoint stays; with overwrite it is replaced")
def overwritten(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], 2)
    path = client.save_state("name").result(WAIT).path
    early = evaluate(client)
    train(client, [lesson()], 2)
    with user_error("name"):
        client.save_state("name").result(WAIT)
    service = lab.main_service
    same(evaluate(service.create_training_client_from_state(path).result(WAIT)), early, "logprobs of the kept one")
    client.save_state("name", overwrite=True).result(WAIT)
    late = evaluate(client)
    differ(late, early, "logprobs early and late")
    same(evaluate(service.create_training_client_from_state(path).result(WAIT)), late, "logprobs of the new one")


@check("save_state: a time to live out of bounds is refused, and training goes on")
def time_to_live(lab: Lab) -> None:
    client = new_trainer(lab)
    for seconds in (HOUR - 1, 11 * 365 * 24 * HOUR):
        with user_error("ttl_seconds"):
            client.save_state("short-lived", ttl_seconds=seconds).result(WAIT)
    client.save_state("short-lived", ttl_seconds=HOUR).result(WAIT)
    train(client, [lesson()])


@check("from state, with the optimizer: the losses go on exactly as without a break")
def resumed(lab: Lab) -> None:
    _, path, losses = half_way(lab)
    service = lab.service()
    session = service.holder.get_session_id()
    mark = lab.control.mark()
    client = service.create_training_client_from_state_with_optimizer(path, user_metadata={"from": "half-way"}).result(WAIT)
    equal(
        lab.control.only("load_weights", mark)["json"],
        {
            "session_id": session,
            "model_seq_id": 0,
            "path": path,
            "optimizer": True,
            "user_metadata": {"from": "half-way"},
            "type": "load_weights",
        },
        "the body of load_weights",
    )
    equal(lab.control.requests("create_model", mark), [], "create_model")
    equal(client.model_id, f"{session}:train:0", "the model id")
    info = client.get_info()
    equal((info.model_data.model_name, info.lora_rank), (BASE_MODEL, RANK), "base model and rank")
    equal(train(client, [lesson()], 4), losses, "losses")


@check("from state, weights only: the first loss is the same, and then the fresh optimizer shows")
def resumed_without_optimizer(lab: Lab) -> None:
    _, path, losses = half_way(lab)
    client = lab.main_service.create_training_client_from_state(path, base_model=BASE_MODEL).result(WAIT)
    found = train(client, [lesson()], 4)
    equal(found[0], losses[0], "the first loss")
    differ(found, losses, "losses with and without the optimizer's state")


@check("from state, weights only: another optimizer can be chosen")
def resumed_with_another_optimizer(lab: Lab) -> None:
    _, path, losses = half_way(lab)
    config = types.DimuonOptimizerConfig()
    client = lab.main_service.create_training_client_from_state(path, optimizer=config).result(WAIT)
    equal(client.get_info().optimizer_config.type, "dimuon", "the optimizer")
    found = train(client, [lesson()], 3, types.DimuonParams(learning_rate=0.01))
    equal(found[0], losses[0], "the first loss")
    expect(found[-1] < found[0], f"losses {found}")


@check("load_state into a run, with and without the optimizer")
def loaded(lab: Lab) -> None:
    client, path, losses = half_way(lab)
    mark = lab.control.mark()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.load_state_with_optimizer(path)
        with_optimizer = train(client, [lesson()], 4)
        client.load_state(path)
        without = train(client, [lesson()], 4)
    equal(with_optimizer, losses, "losses with the optimizer")
    equal(without[0], losses[0], "the first loss without the optimizer")
    differ(without, losses, "losses with and without the optimizer's state")
    rows = [row["json"] for row in lab.control.requests("load_weights", mark)]
    equal([row["optimizer"] for row in rows], [True, False], "optimizer")
    equal({row["model_id"] for row in rows}, {client.model_id}, "the run")
    lab.log.lines = [line for line in lab.log.lines if "DEPRECATED" not in line[1]]


@check("from state: a path that nobody saved is refused")
def unknown_path(lab: Lab) -> None:
    path = "tinker://no-such-run/weights/no-such-checkpoint"
    with user_error("no-such"):
        lab.main_service.create_training_client_from_state(path).result(WAIT)


@check("sampler weights under a name: the sampler has the weights of the moment of saving")
def named_sampler(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], 5)
    mark = lab.control.mark()
    # Waited for at once: 0.38.0 gives this save its place among the operations only some time after the call.
    path = client.save_weights_for_sampler("sampler", ttl_seconds=HOUR, user_metadata={"step": "5"}).result(WAIT).path
    wanted = evaluate(client)
    train(client, [lesson()], 2)
    equal(path, path_of(client, "sampler_weights", "sampler"), "the path")
    body = lab.control.only("save_weights_for_sampler", mark)["json"]
    sent = {"path": "sampler", "kind": "snapshot", "ttl_seconds": HOUR, "user_metadata": {"step": "5"}}
    always = {"model_id": client.model_id, "seq_id": 11, "type": "save_weights_for_sampler"}
    equal(body, {**always, **sent}, "the body")
    for sampler in (
        lab.main_service.create_sampling_client(model_path=path).result(WAIT),
        client.create_sampling_client(path).result(WAIT),
    ):
        equal(sampler.get_base_model(), BASE_MODEL, "the base model")
        same(score(sampler), wanted, "the sampler's logprobs")


@check("a snapshot keeps its weights while training goes on, and needs no request of its own")
def snapshot(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], 3)
    mark = lab.control.mark()
    sampler = client.save_weights_and_get_sampling_client().result(WAIT)
    body = lab.control.only("save_weights_for_sampler", mark)["json"]
    equal((body["kind"], "path" in body), ("snapshot", False), "kind, and whether it has a path")
    expect(isinstance(body["sampling_session_seq_id"], int), f"the body is {body}")
    equal(lab.control.requests("create_sampling_session", mark), [], "create_sampling_session")
    equal(sampler.get_base_model(), BASE_MODEL, "the base model")
    wanted = evaluate(client)
    same(score(sampler), wanted, "logprobs before")
    train(client, [lesson(), lesson(MORE_WORDS[0])], 3)
    later = client.save_weights_and_get_sampling_client().result(WAIT)
    same(score(sampler), wanted, "logprobs after")
    same(score(later), evaluate(client), "logprobs of a later snapshot")
    differ(score(later), wanted, "logprobs of two snapshots")
    expect(later._sampling_session_id != sampler._sampling_session_id, "two snapshots share a session")


@check("in-flight weights: each later publication reaches the sampler that exists")
def inflight(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], 3)
    mark = lab.control.mark()
    sampler = client.save_weights_and_get_sampling_client(kind="inflight").result(WAIT)
    equal(lab.control.only("save_weights_for_sampler", mark)["json"]["kind"], "inflight", "the kind")
    early = evaluate(client)
    same(score(sampler), early, "logprobs of the first publication")
    train(client, [lesson()], 3)
    same(score(sampler), early, "logprobs before the second publication")
    later = client.save_weights_and_get_sampling_client(kind="inflight").result(WAIT)
    late = evaluate(client)
    differ(late, early, "logprobs early and late")
    same(score(later), late, "logprobs of the second sampler")
    same(score(sampler), late, "logprobs of the first sampler after the second publication")


@check("external weights: a path of their own, with recipients")
def external(lab: Lab) -> None:
    client = new_trainer(lab)
    mark = lab.control.mark()
    recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
    plain = client.save_weights_external("export").result(WAIT)
    sealed = client.save_weights_external("sealed", ttl_seconds=HOUR, age_encryption_recipients=recipients).result(WAIT)
    wanted = [path_of(client, "external_weights", name) for name in ("export", "sealed")]
    equal([plain.path, sealed.path], wanted, "the paths")
    bodies = [row["json"] for row in lab.control.requests("save_weights_external", mark)]
    always = {"model_id": client.model_id, "type": "save_weights_external"}
    equal(bodies[0], {**always, "path": "export", "seq_id": 1}, "the plain body")
    extra = {"ttl_seconds": HOUR, "age_encryption_recipients": recipients}
    equal(bodies[1], {**always, "path": "sealed", "seq_id": 2, **extra}, "the body with recipients")


@check("copy_weights: the copy lies in another run and has the same weights")
def copied(lab: Lab) -> None:
    client = new_trainer(lab)
    train(client, [lesson()], 4)
    state = client.save_state("state").result(WAIT).path
    sampler = client.save_weights_for_sampler("sampler").result(WAIT).path
    wanted = evaluate(client)
    mark = lab.control.mark()
    by_rest = tinker.RestClient(base_url=lab.base_url, api_key=API_KEY).copy_weights(state, "archive", ttl_seconds=HOUR)
    by_service = lab.service(project_id="archive").copy_weights(sampler)
    copies = [by_rest.result(WAIT), by_service.result(WAIT)]
    for copy, segment in zip(copies, ("weights", "sampler_weights"), strict=True):
        found = re.fullmatch(r"tinker://([^/]+)/([a-z_]+)/.+", copy)
        expect(found, f"the path {copy}")
        equal(found.group(2), segment, f"the kind of {copy}")
        expect(found.group(1) != client.model_id, f"{copy} lies in the run it was copied from")
    bodies = [row["json"] for row in lab.control.requests("copy_weights", mark)]
    sent = [{"source_path": state, "ttl_seconds": HOUR}, {"source_path": sampler}]
    wanted_bodies = [{**body, "destination_project_id": "archive"} for body in sent]
    equal(sorted(bodies, key=str), sorted(wanted_bodies, key=str), "the bodies")
    train(client, [lesson()], 2)
    resumed = lab.main_service.create_training_client_from_state(copies[0]).result(WAIT)
    same(evaluate(resumed), wanted, "logprobs of the copied state")
    same(score(lab.main_service.create_sampling_client(model_path=copies[1]).result(WAIT)), wanted, "the copied sampler's")


@check("copy_weights: a path that nobody saved is refused")
def copied_from_nowhere(lab: Lab) -> None:
    with user_error("no-such"):
        rest = tinker.RestClient(base_url=lab.base_url, api_key=API_KEY)
        rest.copy_weights("tinker://no-such-run/weights/no-such-checkpoint", "archive").result(WAIT)
