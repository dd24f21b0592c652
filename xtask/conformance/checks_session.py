"""Configuration, sessions, health and clients by base model and by path (PROTOCOL 3, 4, 10, 15.1)."""

from __future__ import annotations

import tinker
from harness import API_KEY, BASE_MODEL, WAIT, Lab, check, equal, expect

# A checkpoint the fake service has from the start.
PATH = "tinker://run-0001/sampler_weights/demo"
SDK = tinker.__version__


@check("both configs: the SDK reads the flags the server sets, unknown ones are ignored")
def configs(lab: Lab) -> None:
    mark = lab.control.mark()
    with lab.flags({"sample_max_concurrent_requests": 123, "no_such_flag": True}, {"sample_cancel_max_batch_size": 7}):
        holder = lab.service().holder
    equal(holder.get_client_config().sample_max_concurrent_requests, 123, "a flag of client/config")
    equal(holder.get_client_dynamic_config().sample_cancel_max_batch_size, 7, "a flag of client/dynamic_config")
    for route in ("client/config", "client/dynamic_config"):
        request = lab.control.only(route, mark)
        equal(request["json"], {"sdk_version": SDK}, f"the body of {route}")


@check("both configs: without flags every default stands")
def config_defaults(lab: Lab) -> None:
    config = lab.main_service.holder.get_client_config()
    equal(
        (config.pjwt_auth_enabled, config.sample_use_retrieve_futures, config.sample_join_sampling_session),
        (False, False, False),
        "flags that are off by default",
    )
    equal(config.sample_dispatch_bytes_semaphore_size, 10 * 1024 * 1024, "the budget of prompt bytes")
    equal(lab.main_service.holder.get_client_dynamic_config().sample_cancel_enabled, False, "cancellation")


@check("start-up: config, dynamic config, session, in this order")
def start_up(lab: Lab) -> None:
    mark = lab.control.mark()
    service = lab.service(user_metadata={"suite": "conformance"}, project_id="project-1", display_name="a run")
    session = service.holder.get_session_id()
    expect(session, "the session has no id")
    rows = [row for row in lab.control.requests(since=mark) if row["route"] != "telemetry"]
    equal([row["route"] for row in rows], ["client/config", "client/dynamic_config", "create_session"], "the start-up")
    body = rows[-1]["json"]
    equal(body["user_metadata"], {"suite": "conformance"}, "user_metadata")
    equal((body["project_id"], body["display_name"]), ("project-1", "a run"), "project and name")
    equal((body["sdk_version"], body["type"]), (SDK, "create_session"), "version and type")
    expect(session != lab.main_service.holder.get_session_id(), "two services share a session")


@check("session: finish carries reason and detail, and ends the session for heartbeats")
def finish(lab: Lab) -> None:
    service = lab.service()
    session = service.holder.get_session_id()
    beat = {"session_id": session, "type": "session_heartbeat"}
    equal(lab.control.status("POST", "session_heartbeat", beat), 200, "a heartbeat of the open session")
    service.close("errored", detail="on purpose").future().result(WAIT)
    request = lab.control.only(f"sessions/{session}/finish")
    equal(request["json"], {"reason": {"type": "errored"}, "detail": "on purpose"}, "the finish body")
    equal(lab.control.status("POST", "session_heartbeat", beat), 410, "a heartbeat of the finished session")


@check("telemetry: batches are accepted, with session start and end")
def telemetry(lab: Lab) -> None:
    mark = lab.control.mark()
    service = lab.service()
    session = service.holder.get_session_id()
    lab.sample(sampler=lab.new_sampler(service), max_tokens=2)
    service.close("success").future().result(WAIT)
    batches = [row["json"] for row in lab.control.requests("telemetry", mark)]
    events = [event for batch in batches if batch["session_id"] == session for event in batch["events"]]
    names = [event["event"] for event in events]
    expect("SESSION_START" in names, f"no session start in {names}")
    equal([event["event_session_index"] for event in events], list(range(len(events))), "the events' numbers")
    answer = lab.control.call("POST", "/api/v1/telemetry", batches[0], {"X-API-Key": API_KEY})
    equal(answer["status"], "accepted", "the answer to a batch")
    equal(lab.log.containing("Dropping telemetry"), [], "dropped batches")


@check("health and capabilities: the REST client lists the models that can be sampled")
def capabilities(lab: Lab) -> None:
    rest = tinker.RestClient(base_url=lab.base_url, api_key=API_KEY)
    models = rest.get_server_capabilities().result(WAIT).supported_models
    expect(BASE_MODEL in [model.model_name for model in models], f"{BASE_MODEL} is not in {models}")
    equal(lab.control.status("GET", "healthz"), 200, "the health check")


@check("sampling client from a base model: a session of its own, numbered from 0")
def from_base_model(lab: Lab) -> None:
    mark = lab.control.mark()
    service = lab.service()
    first, second = lab.new_sampler(service), lab.new_sampler(service)
    bodies = [row["json"] for row in lab.control.requests("create_sampling_session", mark)]
    equal([body["sampling_session_seq_id"] for body in bodies], [0, 1], "the samplers' numbers")
    equal({body["session_id"] for body in bodies}, {service.holder.get_session_id()}, "the session")
    equal([body.get("base_model") for body in bodies], [BASE_MODEL] * 2, "the base model")
    expect(all("model_path" not in body for body in bodies), "a path was sent")
    expect(first._sampling_session_id != second._sampling_session_id, "two samplers share an id")
    equal(first.get_base_model(), BASE_MODEL, "the base model")


@check("sampling client from a tinker:// path: asks for its base model, samples from other weights")
def from_path(lab: Lab) -> None:
    mark = lab.control.mark()
    sampler = lab.new_sampler(lab.main_service, model_path=PATH)
    created = lab.control.only("create_sampling_session", mark)
    equal(created["json"]["model_path"], PATH, "the path")
    expect("base_model" not in created["json"], "a base model was sent")
    asked = lab.control.only(f"samplers/{sampler._sampling_session_id}", mark)
    equal(asked["method"], "GET", "how the sampler is looked up")
    expect(sampler.get_base_model(), "no base model")
    record = sampler._get_sampler_submit().future().result(WAIT)
    equal((record.sampler_id, record.model_path), (sampler._sampling_session_id, PATH), "the sampler's record")
    ours = lab.sample(sampler=sampler, temperature=0.0).sequences[0]
    base = lab.sample(temperature=0.0).sequences[0]
    expect(ours.logprobs != base.logprobs, "trained and base weights give the same probabilities")


@check("sampling client: a path that is not tinker:// and a missing model fail before anything is sent")
def bad_paths(lab: Lab) -> None:
    mark = lab.control.mark()
    for options in ({"model_path": "/models/weights"}, {"model_path": None, "base_model": None}):
        try:
            lab.main_service.create_sampling_client(**options).future().result(WAIT)
        except ValueError:
            continue
        raise AssertionError(f"{options} was accepted")
    equal(lab.control.requests("create_sampling_session", mark), [], "requests")


@check("sampling client: an unknown base model is refused by the server")
def unknown_model(lab: Lab) -> None:
    try:
        lab.new_sampler(lab.main_service, base_model="nobody/no-such-model")
    except tinker.APIStatusError as error:
        expect(400 <= error.status_code < 500, f"status {error.status_code}")
        expect("no-such-model" in str(error), f"the message does not name the model: {error}")
    else:
        raise AssertionError("an unknown model was accepted")
