"""Rows as CSV (RFC 4180) that a spreadsheet shows and does not obey."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a cell begins with that spreadsheets take for a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def rows_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The lines of the rows alone."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A line with the names of the columns, and one for each row. None is an empty cell."""
    heading = rows_of(columns, [{column: column for column in columns}])
    return heading + rows_of(columns, rows)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
