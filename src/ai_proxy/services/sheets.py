"""Exchanges as rows of a table (CSV), which has their figures, question and answer, but no bodies."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.money import dollars_of
from ai_proxy.core.spreadsheet import as_list, cells_of, list_of
from ai_proxy.services import arrivals, lines
from ai_proxy.services.arrivals import BadLine
from ai_proxy.services.lines import Line, Tokens
from ai_proxy.storage.transfer import Arrival, Whole

COLUMNS = (
    *("id", "created_at", "user_id", "key_id", "project_id", "conversation_id", "dialect", "stream"),
    *("asked_model", "model", "provider", "mock", "cached", "status", "error", "finish_reason"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "estimated"),
    *("cost_usd", "duration_ms", "waited_ms", "first_token_ms", "tags", "thumb", "score", "comment", "texts"),
    *("question", "answer"),
)

_NEEDED = ("id", "created_at", "key_id", "user_id", "model", "question")
_FLAGS = frozenset({"stream", "mock", "cached", "estimated"})
_TIMES = frozenset({"duration_ms", "waited_ms", "first_token_ms"})
_NUMBERS = {*Tokens.__struct_fields__, *_TIMES, "score"} - _FLAGS
_BOOLEANS = {"true": True, "false": False}
_LONGEST_HEADING = 10_000  # bytes, many times that of all columns
_LONGEST_SHOWN = 50  # of a column that nobody knows

_number = msgspec.json.Decoder(int | float)

# Out


def rows(batch: Sequence[Whole]) -> Iterator[dict[str, Any]]:
    for whole in batch:
        line = lines.line_of(whole)
        feedback = line.feedback
        yield {
            **{name: getattr(line, name, None) for name in COLUMNS},
            **{name: getattr(line.usage, name) for name in line.usage.__struct_fields__},
            "created_at": f"{line.created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
            "conversation_id": whole.entry.exchange.conversation_id,
            "cost_usd": dollars_of(whole.entry.exchange.cost),
            "tags": as_list(line.tags),
            "thumb": feedback and feedback.thumb,
            "score": feedback and feedback.score,
            "comment": feedback and feedback.comment,
        }


# In


def heading(record: bytes) -> list[str]:
    """Which columns the rows have, in their order. Raises `BadRequest`."""
    columns = _named(record)
    for index, column in enumerate(columns):
        if column not in COLUMNS:
            message = f"The first line is no exchange in JSON, and as CSV has an unknown column: {_shown(column)}."
            raise BadRequest(message)
        if column in columns[:index]:
            message = f"The first line has a column twice: {column}."
            raise BadRequest(message)
    if missing := [column for column in _NEEDED if column not in columns]:
        message = f"The first line lacks columns that every exchange has: {', '.join(missing)}."
        raise BadRequest(message)
    return columns


def decode(record: bytes, columns: Sequence[str]) -> Arrival:
    """A row with these columns. An empty cell is as none at all. Raises `BadLine`."""
    cells = _cells(record)
    if len(cells) != len(columns):
        reason = f"it has {len(cells)} cells, and the heading {len(columns)}"
        raise BadLine(reason)
    given = zip(columns, cells, strict=True)
    row = {column: _value(column, cell) for column, cell in given if cell or column in _NEEDED}
    try:
        line = msgspec.convert(_fields(row), Line)
    except msgspec.ValidationError as error:
        raise BadLine(str(error)) from None
    return arrivals.arrival_of(line)


def _named(record: bytes) -> list[str]:
    try:
        if len(record) > _LONGEST_HEADING:
            raise BadLine("it is too long")
        return _cells(record)
    except BadLine as error:
        message = f"The first line is no exchange in JSON, and no heading of CSV: {error}."
        raise BadRequest(message) from None


def _shown(column: str) -> str:
    return repr(column if len(column) <= _LONGEST_SHOWN else f"{column[:_LONGEST_SHOWN]}…")


def _cells(record: bytes) -> list[str]:
    try:
        return cells_of(record.decode())
    except UnicodeDecodeError:
        raise BadLine("it is not UTF-8") from None
    except ValueError as error:
        raise BadLine(str(error)) from None


def _value(column: str, cell: str) -> Any:
    try:
        if column in _FLAGS:
            return _BOOLEANS[cell.lower()]
        if column in _NUMBERS:
            return _number.decode(cell)
        return list_of(cell) if column == "tags" else cell
    except KeyError:
        raise BadLine("must be True or False", column) from None
    except msgspec.MsgspecError:
        raise BadLine("must be a number", column) from None
    except ValueError as error:
        raise BadLine(str(error), column) from None


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Those of a `Line`. Feedback becomes that of the exchange's user, and as old as the exchange."""
    usage = _taken(row, Tokens.__struct_fields__)
    said = _taken(row, ("thumb", "score", "comment"))
    place = _taken(row, ("conversation_id",))
    return {
        **row,
        "usage": usage,
        "conversation": {"id": place["conversation_id"]} if place else None,
        "feedback": {"created_at": row["created_at"], "user_id": row["user_id"], **said} if said else None,
    }


def _taken(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row.pop(name) for name in names if name in row}
