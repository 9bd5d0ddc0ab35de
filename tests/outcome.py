"""What becomes of a call: what its client is told, and what is kept of it."""

import json
import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.formats import (
    ANTHROPIC_TYPES,
    CHAT,
    MESSAGES,
    RESPONSES,
    STREAMING,
    broken_chat,
    broken_messages,
    broken_responses,
    broken_streaming,
    of_anthropic,
    of_openai,
    path_of,
    streamed_text,
)
from tests.service import events

ASK = "/api/ask"
NO_TOKENS = (0, 0, False)


class Way(NamedTuple):
    """How a question is put: to which address, and whether the answer is to come as a stream."""

    path: str
    stream: bool


_WHOLE = [Way(path, stream=False) for path in (ASK, CHAT, MESSAGES, RESPONSES)]
_STREAMED = [Way(path, stream=True) for path in (STREAMING, CHAT, MESSAGES, RESPONSES)]


def _ways(*ways: Way) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", ways, ids=_label)


def _label(way: Way) -> str:
    return way.path + (", streamed" if way.stream and way.path != STREAMING else "")


EITHER_WAY = pytest.mark.parametrize("path", [ASK, STREAMING])
EVERY_WAY = _ways(*_WHOLE, *_STREAMED)
WHOLE = _ways(*_WHOLE)
STREAMED = _ways(*_STREAMED)
AS_CHAT = _ways(Way(CHAT, stream=False), Way(CHAT, stream=True))


def sampled(ways: pytest.MarkDecorator, cases: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """The first of the cases in each of the ways; the others as chat completions alone, for they take the same path."""
    names, given = cases.args
    ids = list(cases.kwargs.get("ids") or [None] * len(given))
    found = []
    for number, case in enumerate(given):
        values = getattr(case, "values", case if isinstance(case, tuple) else (case,))
        label = (
            getattr(case, "id", None)
            or ids[number]
            or "-".join(getattr(value, "__name__", str(value)) for value in values)
        )
        found += [
            pytest.param(way, *values, id=f"{_label(way)}-{label}")
            for way in ways.args[1]
            if number == 0 or way.path == CHAT
        ]
    names = names.split(",") if isinstance(names, str) else names
    return pytest.mark.parametrize(("way", *names), found)


def post(service, way: str | Way, question: str = "ping", *, headers: dict | None = None, **fields):
    """Ask the server. `way` is a Way, or a path for a whole answer; `fields` are those of the body."""
    path, stream = (way, False) if isinstance(way, str) else way
    body = {**_body(path, question), **fields}
    if stream and path != STREAMING:
        body["stream"] = True
    return service.client.post(path, json=body, headers=headers)


def _body(path: str, question: str) -> dict:
    messages = [{"role": "user", "content": question}]
    match path:
        case "/v1/chat/completions":
            return {"model": "small", "messages": messages}
        case "/v1/messages":
            return {"model": "small", "messages": messages, "max_tokens": 100}
        case "/v1/responses":
            return {"model": "small", "input": question}
        case _:
            return {"question": question}


# A call that was refused.


def seen(response) -> dict:
    """What a client sees of a call that was refused, but for the words."""
    body, headers = response.json(), response.headers
    assert headers["content-type"] == "application/json"
    wait, exact_wait = headers.get("retry-after"), headers.get("retry-after-ms")
    assert wait == (None if exact_wait is None else str(math.ceil(int(exact_wait) / 1000)))
    if path_of(response) == MESSAGES:
        facts = of_anthropic(response, body)
        assert body["error"]["type"] == ANTHROPIC_TYPES[response.status_code]
    else:
        facts = of_openai(response, body)
    should_retry = headers.get("x-should-retry")
    return {"status": response.status_code, "retry-after": wait, "x-should-retry": should_retry, **facts}


def refusal(status: int, code: str, *, way: Way | None = None, should_retry: bool | None = None, **facts) -> dict:
    """What `seen` must give. `facts` are those of `failure`."""
    told = failure(code, **facts)
    wait = told["retry_after"]
    if should_retry is None and told["source"] == "provider":
        should_retry = _should_retry(code)
    return {
        "status": 529 if way and way.path == MESSAGES and code == "upstream_overloaded" else status,
        "retry-after": None if wait is None else str(math.ceil(wait)),
        "x-should-retry": None if should_retry is None else str(should_retry).lower(),
        **_told_by(way and way.path, told),
    }


def _should_retry(code: str) -> bool | None:
    """Of a provider's failure: not if waiting does not help, and no word on it if it is for the caller to mend."""
    if code in {"upstream_rejected", "context_length_exceeded", "content_filter"}:
        return None
    return code not in {"provider_auth", "provider_quota"}


# A stream that failed after its start.


def broken_off(response) -> tuple[str, dict]:
    """The text that came, and what the last event says. No event says that the answer was finished."""
    assert response.status_code == 200
    match path_of(response):
        case "/v1/chat/completions":
            return broken_chat(response)
        case "/v1/messages":
            return broken_messages(response)
        case "/v1/responses":
            return broken_responses(response)
        case _:
            return broken_streaming(response)


def failure(
    code: str,
    *,
    way: Way | None = None,
    provider: str | None = "openai",
    source: str = "provider",
    upstream_status: int | None = None,
    retry_after: float | None = None,
) -> dict:
    """What the second half of `broken_off` must be. Where nobody named a wait, clients are told a usual one."""
    if retry_after is None and source == "provider" and _should_retry(code):
        retry_after = 5 if code == "upstream_overloaded" else 1
    facts = {
        "code": code,
        "source": source,
        "provider": provider,
        "upstream_status": upstream_status,
        "retry_after": retry_after,
    }
    if way == (RESPONSES, True):
        return {"code": code}
    return _told_by(way and way.path, facts)


# A call that went well.


def said(response) -> str:
    """The text of an answer that is whole."""
    assert response.status_code == 200
    if path_of(response) == STREAMING:
        return streamed(response)[0]
    if response.headers["content-type"].startswith("text/event-stream"):
        return streamed_text(response)
    body = response.json()
    match path_of(response):
        case "/v1/chat/completions":
            return body["choices"][0]["message"]["content"]
        case "/v1/messages":
            return "".join(block["text"] for block in body["content"] if block["type"] == "text")
        case "/v1/responses":
            assert body["status"] == "completed"
            return "".join(part["text"] for item in body["output"] for part in item["content"])
        case _:
            return body["answer"]


def streamed(response) -> tuple[str, dict]:
    """Of a stream of /api/streaming that went well: its text, and what its last event says."""
    assert response.status_code == 200
    (first, _), *middle, (last, data) = events(response.text)
    assert (first, last) == ("start", "done")
    return "".join(delta["text"] for _, delta in middle), data


# What is kept.


def recorded(service) -> tuple:
    """Of the newest record: status, error, answer, usage."""
    item = service.history(limit=1)[0]
    return item["status"], item["error"], item["answer"], tuple(item["usage"].values())


def failed(code: str, answer: str = "", usage: tuple = NO_TOKENS) -> tuple:
    """What `recorded` must give."""
    return "failed", code, answer, usage


def tried(service) -> list[tuple[str, str, int | None]]:
    """Of the newest record: the tries in their order, each with its provider, its outcome and the provider's status."""
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", timeout=10)) as database:
        (found,) = database.execute("select attempts from exchanges order by id desc limit 1").fetchone()
    return [(attempt["provider"], attempt["outcome"], attempt["status"]) for attempt in json.loads(found)]


def response_kept(service) -> dict:
    """Of the newest call: the response in its history, into which the events of a stream are put together."""
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", timeout=10)) as database:
        (body,) = database.execute("select response from bodies order by exchange_id desc limit 1").fetchone()
    return json.loads(body)


def memory(service, field: str) -> int:
    """Bytes of memory of the server: `VmRSS` is what it has now, `VmHWM` the most that it ever had."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def _told_by(path: str | None, facts: dict) -> dict:
    return {name: facts[name] for name in ("code", "source")} if path == MESSAGES else facts
