"""Answers that may be had as CSV, for spreadsheets."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request, Response

from ai_proxy.core.spreadsheet import as_csv

CSV: dict[str, Any] = {"content": {"text/csv": {"schema": {"type": "string"}}}}  # said in an endpoint's `responses`


def wants_csv(request: Request, given: str | None) -> bool:
    """What the parameter `format` says, or else the Accept header."""
    return given == "csv" if given is not None else "text/csv" in request.headers.get("accept", "")


async def csv_file(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.csv"', "cache-control": "no-store"}
    text = await asyncio.to_thread(as_csv, columns, rows)  # many rows take long
    return Response(text, headers=headers, media_type="text/csv; charset=utf-8; header=present")
