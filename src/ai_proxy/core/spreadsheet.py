"""Rows as CSV (RFC 4180) that a spreadsheet shows and does not obey, and back."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a cell begins with that spreadsheets take for a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_PLAIN = re.compile(r'[^\s",][^",\r\n]*')  # what stands in a list as it is

csv.field_size_limit(2**31 - 1)  # of the whole process: how long a row may be, is its reader's to say


def rows_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The lines of the rows alone."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A line with the names of the columns, and one for each row. None is an empty cell."""
    heading = rows_of(columns, [{column: column for column in columns}])
    return heading + rows_of(columns, rows)


def cells_of(row: str) -> list[str]:
    """The texts of one row's cells, as they were before `rows_of`. Raises `ValueError`."""
    return [_text(cell) for cell in _parted(row)]


def as_list(texts: Iterable[str]) -> str:
    """One cell's text: with commas between them, and in quotes what has such signs itself."""
    return ", ".join(text if _PLAIN.fullmatch(text) else '"{}"'.format(text.replace('"', '""')) for text in texts)


def list_of(cell: str) -> list[str]:
    """The texts that `as_list` made one of. Raises `ValueError`."""
    return _parted(cell, spaced=True)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    """Or one that is made harmless: it gets one more quote, so that each comes back as it was."""
    return text.lstrip("'").startswith(_FORMULA)


def _parted(row: str, *, spaced: bool = False) -> list[str]:
    try:
        return next(csv.reader([row], strict=True, skipinitialspace=spaced))
    except csv.Error:
        message = "its quotes or line breaks are not those of CSV (RFC 4180)"
        raise ValueError(message) from None
