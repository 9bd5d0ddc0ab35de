"""What was found, as tables that can be put into a Markdown page."""

from collections.abc import Sequence

from bench.bars import bars, memory_after
from bench.measurements import Found

Row = Sequence[object]


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
    table = _table(
        (
            "streams of 102 chunks",
            "at once",
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
                each.streams,
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
    direct = (
        f"Directly, the first token comes after {_ms(found.direct.p50)} ms (p50), {_ms(found.direct.p99)} ms (p99)."
    )
    return f"{table}\n\n{direct}"


def _starts(found: Found) -> str:
    starts = {f"AI Proxy, {which} start": start for which, start in found.starts.items()} | found.peers
    return _table(
        ("start", "s to the liveness probe", "s to the first answer", "CPU s until then", "MB then"),
        [
            (
                name,
                *(f"{figure:.2f}" for figure in (start.livez, start.answer, start.cpu)),
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
        (
            "history",
            "answers counted by the load",
            "200s",
            "requests",
            "client left",
            "rows",
            "of /v1",
            "bodies",
            "in reports",
            "cost, $",
            "log lines",
            "equal",
        ),
        [
            (
                name,
                *(f"{count:,}" for count in (rows.answered, rows.ok, rows.requests, rows.abandoned)),
                ", ".join(f"{count:,} {status}" for status, count in sorted(rows.rows.items())),
                *(f"{count:,}" for count in (rows.chats, rows.bodies, rows.reported)),
                f"{rows.charged / 1e9:.6f}",
                f"{rows.log_lines:,}",
                "yes" if rows.equal else "NO",
            )
            for name, rows in zip(("whole answers", "streams"), found.rows, strict=True)
        ],
    )
    return f"{table}\n\n{EQUAL}"


EQUAL = """\
Equal means: each answer that the load counted is a 200 of the service, and each 200 has its completed row; each call
that went to the provider has one row, and its bodies beside it if it came by /v1; beyond that there are only those that
the load left unfinished at its end, which the service counted as "client left"; no row failed or was lost; the daily
reports count each row and what it cost; each request has its line in the log."""


def _bars(found: Found) -> str:
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    return _table(
        ("what", "bar", "measured", "x nginx", ""),
        [
            (bar.what, bar.bar, bar.figure, "" if bar.ratio is None else f"{bar.ratio:.1f}", verdicts[bar.met])
            for bar in bars(found)
        ],
    )


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
