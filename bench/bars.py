"""The bars: what the product promises, and whether it was found so."""

from typing import NamedTuple

from bench.measurements import Found
from bench.targets import STREAMS

MOST_TIMES_NGINX, AIM_TIMES_NGINX = 20, 10
MOST_CALL, AIM_CALL, NGINX_CALL = 450.0, 250.0, 20.0  # µs of CPU: ours at most, ours hoped for, where nginx costs this
MOST_CHAT_CHUNK, MOST_CHUNK = 80.0, 100.0  # µs of CPU
MOST_LATER = 2.0  # ms
MOST_START = 2.0  # seconds
MOST_MEMORY, MOST_GROWTH = 120.0, 5.0  # MB
CALLS = 100_000


class Bar(NamedTuple):
    """`ratio` is to nginx, where there is one. `met` is None when it was not measured."""

    what: str
    bar: str
    figure: str
    met: bool | None
    ratio: float | None = None


def bars(found: Found) -> list[Bar]:
    slowest = max(start.answer for start in found.starts.values())
    errors = sum(each.errors for each in (*found.calls, *found.chunks, found.memory))
    return [
        *_call_bars(found),
        *_stream_bars(found),
        _at_most("start to the first answer", MOST_START, slowest, "s", digits=2),
        *_memory_bars(found),
        *_history_bars(found),
        Bar("errors under load", "0", str(errors), errors == 0),
    ]


def _call_bars(found: Found) -> list[Bar]:
    nginx, chat, ask = (each.cpu for each in found.calls[:3])
    most = MOST_CALL * max(1.0, nginx / NGINX_CALL)  # where nginx costs more, so may we
    times, rest = f"{MOST_TIMES_NGINX} x nginx", f"(aim: {AIM_CALL:.0f}) where nginx costs {NGINX_CALL:.0f}"
    return [
        Bar(
            "POST /v1/chat/completions: CPU per call",
            f"{times} (aim: {AIM_TIMES_NGINX})",
            f"{chat:.0f} µs",
            chat <= MOST_TIMES_NGINX * nginx,
            chat / nginx,
        ),
        Bar("POST /api/ask: CPU per call", times, f"{ask:.0f} µs", ask <= MOST_TIMES_NGINX * nginx, ask / nginx),
        Bar(
            "POST /api/ask: CPU per call",
            f"{MOST_CALL:.0f} µs {rest}",
            f"{ask:.0f} µs where nginx costs {nginx:.0f}",
            ask <= most,
            ask / nginx,
        ),
    ]


def _stream_bars(found: Found) -> list[Bar]:
    nginx, chat, ours = (each.cpu for each in found.chunks[:3])
    later = found.tokens[1]
    streams = "POST /v1/chat/completions, stream"
    return [
        _at_most(f"{streams}: CPU per chunk", MOST_CHAT_CHUNK, chat, "µs", digits=1)._replace(ratio=chat / nginx),
        Bar(
            f"{streams}, {STREAMS} at once: first token later, p50",
            f"{MOST_LATER:g} ms",
            f"{later.p50:.1f} ms (p99 {later.p99:.1f})",
            later.p50 <= MOST_LATER,
        ),
        _at_most("POST /api/streaming: CPU per chunk", MOST_CHUNK, ours, "µs", digits=1)._replace(ratio=ours / nginx),
    ]


def _memory_bars(found: Found) -> list[Bar]:
    after, growth = f"memory after {CALLS:,} calls", f"memory: more than after {CALLS // 2:,}"
    if found.memory.seen[-1][0] < CALLS:
        return [Bar(what, f"{most:g} MB", "", None) for what, most in ((after, MOST_MEMORY), (growth, MOST_GROWTH))]
    full, half = memory_after(found, CALLS), memory_after(found, CALLS // 2)
    return [
        _at_most(after, MOST_MEMORY, full, "MB"),
        _at_most(growth, MOST_GROWTH, full - half, "MB", digits=1),
    ]


def memory_after(found: Found, calls: int) -> float:
    """MB when there had been so many calls, or a few more."""
    return next(memory for count, memory in found.memory.seen if count >= calls)


def _history_bars(found: Found) -> list[Bar]:
    completed = sum(rows.rows.get("completed", 0) for rows in found.rows)
    answered, chats = sum(rows.answered for rows in found.rows), sum(rows.chats for rows in found.rows)
    bodies = sum(rows.bodies for rows in found.rows)
    return [
        Bar(
            "rows stored",
            "= answers given",
            f"{completed:,} completed rows, {answered:,} answers counted",
            all(rows.equal for rows in found.rows),
        ),
        Bar("bodies stored", "= rows of /v1", f"{bodies:,} bodies, {chats:,} rows", bodies == chats > 0),
        Bar(
            "calls in the daily reports",
            "= rows",
            f"{sum(rows.reported for rows in found.rows):,} calls, ${sum(rows.spent for rows in found.rows) / 1e9:.6f}",
            all(rows.reported == sum(rows.rows.values()) and rows.spent == rows.charged for rows in found.rows),
        ),
    ]


def _at_most(what: str, limit: float, figure: float, unit: str, *, digits: int = 0) -> Bar:
    return Bar(what, f"{limit:g} {unit}", f"{figure:.{digits}f} {unit}", figure <= limit)
