"""Exports and imports of a running service: only so many at a time, because each has megabytes in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from ai_proxy.core.exceptions import Unavailable
from ai_proxy.core.types import Actor
from ai_proxy.services.exports import Export, Format
from ai_proxy.services.imports import Import
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Wanted

_MOST = 4
_PATIENCE = 30  # seconds


class Transfers:
    """`keep_texts`: whether texts of what is imported are kept, as those of calls are."""

    def __init__(self, database: Database, *, keep_texts: bool) -> None:
        self._database = database
        self._keep_texts = keep_texts
        self._running = 0

    def export(self, viewer: Viewer, wanted: Wanted, *, form: Format, words: str | None = None) -> Export:
        return Export(self._database, viewer, wanted, form=form, words=words)

    def import_(self, actor: Actor, *, key: str | None = None) -> Import:
        return Import(self._database, actor, key=key, keep_texts=self._keep_texts)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises `Unavailable` if there are as many as there may be."""
        if self._running >= _MOST:
            message = "Too many exports and imports are running: try again later."
            raise Unavailable(message, retry_after=_PATIENCE)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
