"""What becomes of a call: what its client is told, and what is kept of it."""

import re
from pathlib import Path

import pytest

from tests.service import events

ASK, STREAMING = "/api/ask", "/api/streaming"
EITHER_WAY = pytest.mark.parametrize("path", [ASK, STREAMING])
NO_TOKENS = (0, 0, False)


def post(service, path: str, question: str = "ping", **fields):
    return service.client.post(path, json={"question": question, **fields})


def seen(response) -> dict:
    """What a client sees of a call that was refused, but for the words."""
    error = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return {
        "status": response.status_code,
        "retry-after": response.headers.get("retry-after"),
        "x-should-retry": response.headers.get("x-should-retry"),
        **_facts(error),
    }


def refusal(status: int, code: str, *, should_retry: bool | None = None, **facts) -> dict:
    """What `seen` must give."""
    error = failure(code, **facts)
    wait = error["retry_after"]
    return {
        "status": status,
        "retry-after": None if wait is None else str(wait),
        "x-should-retry": None if should_retry is None else str(should_retry).lower(),
        **error,
    }


def broken_off(response) -> tuple[str, dict]:
    """Of a stream that failed after its start: the text that came, and what its last event says."""
    assert response.status_code == 200
    (first, _), *middle, (last, data) = events(response.text)
    assert (first, last) == ("start", "error")
    assert {name for name, _ in middle} == {"delta"}
    assert data["error"]["request_id"] == response.headers["x-request-id"]
    return "".join(delta["text"] for _, delta in middle), _facts(data["error"])


def failure(
    code: str,
    *,
    provider: str | None = "openai",
    source: str = "provider",
    upstream_status: int | None = None,
    retry_after: float | None = None,
) -> dict:
    """What the second half of `broken_off` must be."""
    return {
        "code": code,
        "source": source,
        "provider": provider,
        "upstream_status": upstream_status,
        "retry_after": retry_after,
    }


def streamed(response) -> tuple[str, dict]:
    """Of a stream that went well: its text, and what its last event says."""
    assert response.status_code == 200
    (first, _), *middle, (last, data) = events(response.text)
    assert (first, last) == ("start", "done")
    return "".join(delta["text"] for _, delta in middle), data


def recorded(service) -> tuple:
    """Of the newest record: status, error, answer, usage."""
    item = service.history(limit=1)[0]
    return item["status"], item["error"], item["answer"], tuple(item["usage"].values())


def failed(code: str, answer: str = "", usage: tuple = NO_TOKENS) -> tuple:
    """What `recorded` must give."""
    return "failed", code, answer, usage


def memory(service, field: str) -> int:
    """Bytes of memory of the server: `VmRSS` is what it has now, `VmHWM` the most that it ever had."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def _facts(error: dict) -> dict:
    return {name: error[name] for name in ("code", "source", "provider", "upstream_status", "retry_after")}
