"""The file of the keys that were seen: whose they are, and digests that tell nothing without the server's secret."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from ai_proxy.core.types import SeenKey
from ai_proxy.storage.segments import sync_directory

log = structlog.get_logger()

_NAME = "seen-keys"


class _File(msgspec.Struct):
    """`database` is the name of the one that knew them."""

    database: str
    keys: Sequence[SeenKey]


class SeenKeysFile:
    """`directory` is not made here: data that is gone does not come back so."""

    def __init__(self, directory: Path, *, database: str) -> None:
        self._path = directory / _NAME
        self._database = database

    def load(self) -> Sequence[SeenKey]:
        """What was saved last; nothing if that was of another database, or cannot be read."""
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("keys: the file of those that were seen cannot be read", reason=type(error).__name__)
            return ()
        return file.keys if file.database == self._database else ()

    def save(self, keys: Sequence[SeenKey]) -> None:
        """Put this in place of what there was, in one step. Raises `OSError`."""
        draft = self._path.with_name(f".{_NAME}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(_File(self._database, keys)))
                file.flush()
                os.fsync(descriptor)
            draft.rename(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        sync_directory(self._path.parent)
