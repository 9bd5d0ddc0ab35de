"""What is measured: a process, and the two requests that it is asked."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from bench.processes import BenchError, Process, until

QUESTION = "What is the capital of France, and why is it the capital?"
STREAMS = 50  # at once
_PATIENCE = 10.0  # seconds, with one try


@dataclass(frozen=True)
class Request:
    """A POST on the loopback address."""

    port: int
    path: str
    body: dict[str, object]
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "authorization": f"Bearer {self.key}"}

    @property
    def json(self) -> str:
        return json.dumps(self.body, separators=(",", ":"))


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process to its first answers; its CPU seconds until then, and its MB."""

    livez: float
    ask: float
    cpu: float
    rss: float


@dataclass(frozen=True)
class Target:
    """`streams` is how many of them at once it is asked for: not more than it can serve as fast as they come."""

    name: str
    process: Process
    ask: Request
    stream: Request
    streams: int = STREAMS


def chat(port: int, *, model: str = "fake", path: str = "/v1/chat/completions", key: str = "", stream: bool) -> Request:
    """The question, as OpenAI's wire format has it."""
    messages = [{"role": "user", "content": QUESTION}]
    extra: dict[str, object] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return Request(port, path, {"model": model, "messages": messages} | extra, key)


def status_of(port: int, path: str, request: Request | None = None) -> int:
    """Of one GET, or of `request`; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        if request is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, request.json, request.headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()


def text_of(port: int, path: str) -> str:
    """The body of one GET. Raises `BenchError` unless it is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        message = f"GET {path}: {response.status} {text[:200]}"
        raise BenchError(message)
    return text


def wait_for(process: Process, answers: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Seconds from the start of the process until `answers`. Ends it and raises `BenchError` if it does not come."""

    def answered() -> bool:
        process.check()
        return answers()

    try:
        until(answered, seconds=seconds, what=what, every=0.005)
    except BaseException:
        process.stop()
        raise
    return process.age()


def first_answers(process: Process, alive: str, ask: Request, *, seconds: float) -> Start:
    """Wait until GET `alive` and then the question are answered with 200; as `wait_for`."""

    def is_alive() -> bool:
        return status_of(ask.port, alive) == HTTPStatus.OK

    def is_asked() -> bool:
        return status_of(ask.port, ask.path, ask) == HTTPStatus.OK

    livez = wait_for(process, is_alive, seconds=seconds, what=f"GET {alive}")
    asked = wait_for(process, is_asked, seconds=seconds, what=f"POST {ask.path}")
    return Start(livez, asked, process.cpu(), process.rss())
