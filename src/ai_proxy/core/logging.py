"""Logs on STDOUT: one JSON object a line, or colours on a terminal; the same form for our lines and the libraries'.

Lines go through a bounded buffer and a thread of their own, so that a slow, full or closed STDOUT stops nobody: what
cannot be written is dropped and counted.
"""

import atexit
import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import msgspec
import structlog

# Set by the middleware, so that every line written while a request is served carries its id.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
# What JSON lets through and terminals or readers of lines may obey: DEL, the C1 controls, two line separators.
_RAW = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")
# The last step of every line: from what is to be said to the bytes that say it.
Finish = Callable[[Any, str, MutableMapping[str, Any]], bytes]

_encoder = msgspec.json.Encoder(enc_hook=repr)


class LogWriter:
    """Writes lines to a file descriptor from a thread of its own. `dropped` counts those that could not be written."""

    GATHER = 0.02  # seconds: one write for what arrives meanwhile, instead of a thread switch a line

    def __init__(self, descriptor: int, *, capacity: int = 10_000) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._awake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line. Never waits."""
        if len(self._lines) >= self._capacity:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._awake.is_set():
            self._awake.set()

    debug = info = warning = error = critical = exception = msg = log = write  # what structlog calls, by level

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, for at most `timeout` seconds."""
        self._closed = True
        self._awake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not (self._closed and not self._lines):
            self._awake.wait()
            if not self._closed:
                time.sleep(self.GATHER)
            self._awake.clear()
            self._drain()

    def _drain(self) -> None:
        count = len(self._lines)
        rest = b"".join(self._lines.popleft() + b"\n" for _ in range(count))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.dropped += count


class _Bridge(logging.Handler):
    """Sends the standard library's log records (uvicorn, SQLAlchemy, …) to the same writer, in the same form."""

    def __init__(self, writer: LogWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record).encode())


_writer: LogWriter | None = None
_finish: Finish
_threshold: int
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def say(text: str) -> None:
    """Tell the person who started us, on STDERR, because STDOUT has the log. Nobody may be listening."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # closed before we started, full, closed since
        sys.stderr.write(text)
        sys.stderr.flush()


def configure(*, level: str, log_format: str) -> LogWriter:
    """Set up logging for this process. `log_format` is json, console, or auto: console on a terminal."""
    global _writer, _finish, _threshold  # noqa: PLW0603 - logging belongs to the process
    if _writer is not None:
        _writer.close()
    _writer = LogWriter(_stdout())
    atexit.register(_writer.close)
    console = log_format == "console" or (log_format == "auto" and os.isatty(_stdout()))
    _finish = _console() if console else _json
    _threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _finish],
        wrapper_class=structlog.make_filtering_bound_logger(_threshold),
        logger_factory=lambda *_: _writer,
        cache_logger_on_first_use=False,
    )
    _adopt_standard_loggers(_writer, _finish, _threshold)
    return _writer


def write(method: str, event: dict[str, Any]) -> None:
    """A line as structlog's, but not through its copies of what is to be said: for the one that every request has."""
    if _writer is not None and _LEVELS[method] >= _threshold:
        _writer.write(_finish(_writer, method, event))


def _adopt_standard_loggers(writer: LogWriter, finish: Finish, threshold: int) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            lambda logger, method, event: finish(logger, method, event).decode(),
        ],
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(allow=())],
    )
    root = logging.getLogger()
    root.handlers = [_Bridge(writer, formatter)]
    root.setLevel(max(threshold, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"  # the middleware writes the line for a request
        logger.setLevel(logging.NOTSET if name.startswith("uvicorn") else logging.WARNING)


def _json(_: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    line = _ordered(method, event)
    try:
        text = _encoder.encode(line)
    except (TypeError, UnicodeEncodeError):
        text = _encoder.encode({key: ascii(value) for key, value in line.items()})
    return text if text.isascii() and b"\x7f" not in text else _RAW.sub(_escaped, text)


def _escaped(raw: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(raw[0].decode())


def _console() -> Finish:
    renderer = structlog.dev.ConsoleRenderer(colors=True, event_key="message", pad_event_to=0)

    def finish(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        line = {key: _visible(value) for key, value in _ordered(method, event).items() if value is not None}
        return str(renderer(logger, method, line)).encode(errors="backslashreplace")

    return finish


def _ordered(method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The keys that every line has, first; the rest as they came."""
    line = {
        "timestamp": _now(),
        "level": method,
        "message": event.pop("event", ""),
        "request_id": request_id.get(),
    }
    line.update(event)
    return line


def _now() -> str:
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _second(number: int) -> str:
    """The second (UTC) with this number, counted from the epoch."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number))


def _visible(value: Any) -> Any:
    """Text with control characters spelled out, but for the line breaks of a traceback."""
    if not isinstance(value, str):
        return value
    return (
        "\n".join(part.translate(_CONTROL) for part in value.split("\n"))
        if "\n" in value
        else value.translate(_CONTROL)
    )


def _stdout() -> int:
    try:
        return sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # closed before we started
        return os.open(os.devnull, os.O_WRONLY)
