"""What is measured: a process, and the two requests that it is asked."""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from bench.processes import BenchError, Process, until

MODEL = "fake"
QUESTION = "What is the capital of France, and why is it the capital?"
STREAMS = 50  # at once
CHAT = "/v1/chat/completions"
_PATIENCE = 10.0  # seconds, with one try


@dataclass(frozen=True)
class Request:
    """A POST on the loopback address."""

    port: int
    path: str
    body: dict[str, object]
    key: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # headers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "authorization": f"Bearer {self.key}", **self.more}

    @property
    def json(self) -> str:
        return json.dumps(self.body, separators=(",", ":"))


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process to its first answers; its CPU seconds until then, and its MB."""

    livez: float
    answer: float
    cpu: float
    rss: float


@dataclass(frozen=True)
class Target:
    """Asked for a `whole` answer, and for a `stream`.

    `streams` is how many of them at once: not more than it can serve as fast as they come.
    """

    name: str
    process: Process
    whole: Request
    stream: Request
    streams: int = STREAMS


def chat(port: int, *, model: str = MODEL, path: str = CHAT, key: str = "", stream: bool) -> Request:
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


def first_answers(process: Process, alive: str, asked: Request, *, seconds: float) -> Start:
    """Wait until GET `alive` and then the question are answered with 200; as `wait_for`."""

    def is_alive() -> bool:
        return status_of(asked.port, alive) == HTTPStatus.OK

    def is_answered() -> bool:
        return status_of(asked.port, asked.path, asked) == HTTPStatus.OK

    livez = wait_for(process, is_alive, seconds=seconds, what=f"GET {alive}")
    answer = wait_for(process, is_answered, seconds=seconds, what=f"POST {asked.path}")
    return Start(livez, answer, process.cpu(), process.rss())
