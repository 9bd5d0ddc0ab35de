"""What was found, as tables that can be put into a Markdown page, and the bars."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.measurements import Found

MOST_TIMES_NGINX = 20
MOST_CALL, AIM_CALL, NGINX_CALL = 450.0, 250.0, 20.0  # µs of CPU: ours at most, ours hoped for, where nginx costs this
MOST_CHUNK = 100.0  # µs of CPU
MOST_START = 2.0  # seconds
MOST_MEMORY, MOST_GROWTH = 120.0, 5.0  # MB
CALLS = 100_000

Row = Sequence[object]


class Bar(NamedTuple):
    """`met` is None when it was not measured."""

    what: str
    figure: str
    met: bool | None


def bars(found: Found) -> list[Bar]:
    nginx, ours = found.calls[:2]
    most = MOST_CALL * max(1.0, nginx.cpu / NGINX_CALL)  # where nginx costs more, so may we
    slowest = max(start.ask for start in found.starts.values())
    errors = sum(each.errors for each in (*found.calls, *found.chunks, found.memory))
    ratio = ours.cpu / nginx.cpu
    return [
        Bar(f"POST /api/ask: at most {MOST_TIMES_NGINX} x nginx", f"{ratio:.1f} x", ratio <= MOST_TIMES_NGINX),
        Bar(
            f"POST /api/ask: at most {MOST_CALL:.0f} µs of CPU where nginx costs {NGINX_CALL:.0f} (the aim: "
            f"{AIM_CALL:.0f})",
            f"{ours.cpu:.0f} µs, nginx {nginx.cpu:.0f} (so at most {most:.0f})",
            ours.cpu <= most,
        ),
        _at_most("a streamed chunk", MOST_CHUNK, found.chunks[1].cpu, "µs of CPU", digits=1),
        _at_most("start to the first answer", MOST_START, slowest, "s", digits=2),
        *_memory_bars(found),
        Bar("rows stored equal answers given", _rows_figure(found), all(rows.equal for rows in found.rows)),
        Bar("no errors under load", str(errors), errors == 0),
    ]


def _at_most(what: str, limit: float, figure: float, unit: str, *, digits: int = 0) -> Bar:
    return Bar(f"{what}: at most {limit:g} {unit}", f"{figure:.{digits}f} {unit}", figure <= limit)


def _memory_bars(found: Found) -> list[Bar]:
    after = f"memory after {CALLS:,} calls: at most {MOST_MEMORY:.0f} MB"
    growth = f"memory level: at most {MOST_GROWTH:.0f} MB more than after {CALLS // 2:,}"
    seen = found.memory.seen
    if seen[-1][0] < CALLS:
        return [Bar(after, "not measured", None), Bar(growth, "not measured", None)]
    full, half = memory_after(found, CALLS), memory_after(found, CALLS // 2)
    return [
        Bar(after, f"{full:.0f} MB", full <= MOST_MEMORY),
        Bar(growth, f"{full - half:+.1f} MB", full - half <= MOST_GROWTH),
    ]


def memory_after(found: Found, calls: int) -> float:
    """MB when there had been so many calls, or a few more."""
    return next(memory for count, memory in found.memory.seen if count >= calls)


def _rows_figure(found: Found) -> str:
    completed = sum(rows.rows.get("completed", 0) for rows in found.rows)
    answered = sum(rows.answered for rows in found.rows)
    return f"{completed:,} completed rows, {answered:,} answers counted"


def text(found: Found) -> str:
    """The whole report."""
    parts = [found.machine, _calls(found), _streams(found), _starts(found), _memory(found), _rows(found), _bars(found)]
    return "\n\n".join(parts)


def _calls(found: Found) -> str:
    floor = found.calls[0].cpu
    return _table(
        ("whole answers", "CPU µs per call", "x nginx", "calls/s", "p50 ms", "p99 ms"),
        [
            (
                each.name,
                f"{each.cpu:,.0f}",
                f"{each.cpu / floor:,.1f}",
                f"{each.rate:,.0f}",
                _ms(each.p50),
                _ms(each.p99),
            )
            for each in found.calls
        ],
    )


def _streams(found: Found) -> str:
    floor = found.chunks[0].cpu
    return _table(
        (
            "streams of 102 chunks",
            "CPU µs per chunk",
            "x nginx",
            "chunks/s",
            "core busy",
            "first token later by ms, p50",
            "p99",
        ),
        [
            (
                each.name,
                f"{each.cpu:,.0f}",
                f"{each.cpu / floor:,.1f}",
                f"{each.rate:,.0f}",
                f"{each.busy:.0%}",
                _ms(token.p50),
                _ms(token.p99),
            )
            for each, token in zip(found.chunks, found.tokens, strict=True)
        ],
    )


def _starts(found: Found) -> str:
    starts = {f"AI Proxy, {which} start": start for which, start in found.starts.items()} | found.peers
    return _table(
        ("start", "s to the liveness probe", "s to the first answer", "CPU s until then", "MB then"),
        [
            (
                name,
                *(f"{figure:.2f}" for figure in (start.livez, start.ask, start.cpu)),
                f"{start.rss:.0f}",
            )
            for name, start in starts.items()
        ],
    )


def _memory(found: Found) -> str:
    idle = found.starts["first"].rss
    marks = [mark for mark in (20_000, 50_000, 100_000) if found.memory.seen[-1][0] >= mark]
    return _table(
        ("memory", "after the first answer", *(f"after {mark:,} calls" for mark in marks)),
        [("AI Proxy, MB", *(f"{each:.1f}" for each in (idle, *(memory_after(found, mark) for mark in marks))))],
    )


def _rows(found: Found) -> str:
    table = _table(
        ("history", "answers counted by the load", "200s", "requests", "client left", "rows", "log lines", "equal"),
        [
            (
                name,
                *(f"{count:,}" for count in (rows.answered, rows.ok, rows.requests, rows.abandoned)),
                ", ".join(f"{count:,} {status}" for status, count in sorted(rows.rows.items())),
                f"{rows.log_lines:,}",
                "yes" if rows.equal else "NO",
            )
            for name, rows in zip(("whole answers", "streams"), found.rows, strict=True)
        ],
    )
    return f"{table}\n\n{EQUAL}"


EQUAL = """\
Equal means: each answer that the load counted is a 200 of the service, and each 200 has its completed row; each call
that went to the provider has one row; beyond that there are only those that the load left unfinished at its end, which
the service counted as "client left"; no row failed or was lost; each request has its line in the log."""


def _bars(found: Found) -> str:
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    return _table(("bar", "measured", ""), [(bar.what, bar.figure, verdicts[bar.met]) for bar in bars(found)])


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: Row, rows: Sequence[Row]) -> str:
    """In Markdown; the first column to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["| " + " | ".join(_padded(row, widths)) + " |" for row in cells]
    rule = "|" + "|".join(
        "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":" for column, width in enumerate(widths)
    )
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
