"""What the checks share: the list of checks, the server's control routes, captured log lines, clients that get closed."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tinker
from tinker import types

API_KEY = "tml-conformance-0123456789"
BASE_MODEL = "Qwen/Qwen3-8B"
# Seconds any single wait may take, and any single check.
WAIT = 20
CHECK = 40

Check = Callable[["Lab"], None]
_CHECKS: list[tuple[str, Check]] = []


def check(title: str) -> Callable[[Check], Check]:
    """Adds a function to the run; `title` is the line it prints."""

    def add(function: Check) -> Check:
        _CHECKS.append((title, function))
        return function

    return add


def tokens(text: str) -> list[int]:
    """The fake server's vocabulary is the 256 byte values."""
    return list(text.encode())


def text(ids: Iterable[int]) -> str:
    return bytes(ids).decode(errors="replace")


def prompt(words: str) -> types.ModelInput:
    return types.ModelInput.from_ints(tokens(words))


def near(a: float, b: float, tolerance: float = 1e-4) -> bool:
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def expect(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def equal(found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


def until(condition: Callable[[], Any], what: str, limit: float = WAIT) -> Any:
    """Polls until the condition holds and returns its value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < end, f"not within {limit} s: {what}")
        time.sleep(0.02)


class Control:
    """The fake server's control routes, and its plain routes for probes without the SDK."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One request; returns the parsed JSON body, or raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._base_url + path, data=data, method=method, headers={"content-type": "application/json", **(headers or {})}
        )
        with urllib.request.urlopen(request, timeout=WAIT) as response:
            raw = response.read()
        return json.loads(raw) if raw else None

    def status(self, method: str, route: str, body: Any = None) -> int:
        """The status of a protocol request made without the SDK."""
        try:
            self.call(method, f"/api/v1/{route}", body, {"X-API-Key": API_KEY})
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        return 200

    def script(self, route: str, steps: list[dict[str, Any]], then: str = "behave") -> None:
        """Makes a route answer these steps in order, and behave afterwards."""
        self.call("POST", "/control/script", {"route": route, "steps": steps, "then": then})

    def config(self, client: dict[str, Any] | None = None, dynamic: dict[str, Any] | None = None) -> None:
        """Replaces the flags that later clients get."""
        self.call("POST", "/control/config", {"client_config": client or {}, "dynamic_config": dynamic or {}})

    def post(self, what: str, body: Any = None) -> Any:
        return self.call("POST", f"/control/{what}", body or {})

    def requests(self, route: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """What the server got, in order of arrival: `route`, `method`, `headers`, `json`, `index`."""
        # A sampler's id holds colons; the server takes them as they are.
        query = f"?route={urllib.parse.quote(route, safe='/:*')}" if route else ""
        rows = self.call("GET", f"/control/requests{query}")
        for row in rows:
            row["route"] = row["path"].removeprefix("/api/v1/")
        return [row for row in rows if row["index"] >= since]

    def only(self, route: str, since: int = 0) -> dict[str, Any]:
        """The one request of a route; fails when there are none or several."""
        rows = self.requests(route, since)
        equal(len(rows), 1, f"the number of requests to {route}")
        return rows[0]

    def mark(self) -> int:
        """A number that separates earlier requests from later ones."""
        # A request of its own, on a route with few others: the whole log is long.
        self.status("GET", "healthz")
        return self.requests("healthz")[-1]["index"] + 1


class LogLines(logging.Handler):
    """Keeps the SDK's log lines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def containing(self, part: str, level: str | None = None) -> list[str]:
        return [line for name, line in list(self.lines) if part in line and level in (None, name)]


class Lab:
    """One run: the server, its control routes, the log, and every client made, closed at the end."""

    def __init__(self, base_url: str, training_reference: str) -> None:
        self.base_url = base_url
        self.training_reference = training_reference
        self.control = Control(base_url)
        self.log = LogLines()
        self._services: list[tinker.ServiceClient] = []
        self._main: tuple[tinker.ServiceClient, tinker.SamplingClient] | None = None

    def __enter__(self) -> Lab:
        logger = logging.getLogger("tinker")
        logger.addHandler(self.log)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        self.control.post("reset")
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._services:
            try:
                service.close("success").future().result(WAIT)
            except Exception as error:  # noqa: BLE001  the verdict is out already
                print(f"closing a client failed: {error!r}")

    def service(self, **options: Any) -> tinker.ServiceClient:
        """A new service client, closed at the end of the run."""
        service = tinker.ServiceClient(base_url=self.base_url, api_key=API_KEY, **options)
        self._services.append(service)
        return service

    @property
    def main_service(self) -> tinker.ServiceClient:
        return self._shared()[0]

    @property
    def sampler(self) -> tinker.SamplingClient:
        """One sampling client with default flags, shared by the checks that only look at values."""
        return self._shared()[1]

    def _shared(self) -> tuple[tinker.ServiceClient, tinker.SamplingClient]:
        if self._main is None:
            self.control.config()
            service = self.service()
            self._main = (service, self.new_sampler(service))
        return self._main

    def new_sampler(self, service: tinker.ServiceClient, **options: Any) -> tinker.SamplingClient:
        if "model_path" not in options:
            options.setdefault("base_model", BASE_MODEL)
        return service.create_sampling_client(**options).future().result(WAIT)

    def sample(
        self,
        words: str | types.ModelInput = "The model ",
        *,
        sampler: tinker.SamplingClient | None = None,
        num_samples: int = 1,
        extra: dict[str, Any] | None = None,
        **params: Any,
    ) -> types.SampleResponse:
        """Samples and waits. `params` go into SamplingParams, `extra` into `sample`."""
        return self.start(words, sampler=sampler, num_samples=num_samples, extra=extra, **params).result(WAIT)

    def start(
        self,
        words: str | types.ModelInput = "The model ",
        *,
        sampler: tinker.SamplingClient | None = None,
        num_samples: int = 1,
        extra: dict[str, Any] | None = None,
        **params: Any,
    ) -> Any:
        """Submits a sample and returns its concurrent future."""
        params.setdefault("max_tokens", 12)
        return (
            (sampler or self.sampler)
            .sample(
                prompt(words) if isinstance(words, str) else words,
                num_samples,
                types.SamplingParams(**params),
                **(extra or {}),
            )
            .future()
        )

    @contextmanager
    def flags(self, client: dict[str, Any] | None = None, dynamic: dict[str, Any] | None = None) -> Iterator[None]:
        """Flags for the clients made inside the block."""
        self.control.config(client, dynamic)
        try:
            yield
        finally:
            self.control.config()


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Interrupts the main thread, also inside a wait of the SDK that has no timeout of its own."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_all(lab: Lab) -> int:
    """Runs every check, prints a line for each and the total, and returns the exit code."""
    failed = 0
    whole = time.monotonic()
    for title, function in _CHECKS:
        start = time.monotonic()
        try:
            with limited(CHECK):
                function(lab)
        except Exception as error:  # noqa: BLE001  any failure is a finding
            failed += 1
            print(f"FAILED  {title}")
            if isinstance(error, AssertionError):
                place = traceback.extract_tb(error.__traceback__)
                own = [frame for frame in place if "checks_" in frame.filename]
                where = f" ({own[-1].name}, line {own[-1].lineno})" if own else ""
                print(f"        {error}{where}")
            else:
                traceback.print_exception(error)
        else:
            print(f"ok      {title} ({time.monotonic() - start:.1f} s)")
    print(f"\n{len(_CHECKS) - failed} passed, {failed} failed in {time.monotonic() - whole:.1f} s")
    return 1 if failed else 0
