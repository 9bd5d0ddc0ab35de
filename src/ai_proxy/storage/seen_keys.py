"""The file of the keys that were seen: whose they are, and digests that tell nothing without the server's secret.

Several processes may share it. What one of them took out stays out: the others know what was there before.
"""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
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

    def __init__(self, directory: Path, *, database: str, most: int = 10_000) -> None:
        """`most` keys are kept, those that were seen last."""
        self._path = directory / _NAME
        self._database = database
        self._most = most
        self._there: frozenset[str] = frozenset()  # when we looked last
        self._dropped: dict[str, int] = {}  # of ours, because others had removed them: when we had seen these

    def load(self) -> Sequence[SeenKey]:
        """What was saved last; nothing if that was of another database, or cannot be read."""
        try:
            keys = self._decoded(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            _complain(error)
            return ()
        self._there = _digests(keys or ())
        return keys or ()

    def save(self, keys: Sequence[SeenKey], removed: Collection[str] | None = ()) -> Sequence[SeenKey]:
        """Put these in place of what there was, in one step, and with those that others saw. Returns what is there now.

        `removed` are digests of those that are to go; None is for all of others. Raises `OSError`.
        """
        with self._locked() as descriptor:
            if removed is not None and (there := self._decoded(_content(descriptor))) is not None:
                keys = self._merged(keys, [key for key in there if key.digest not in removed])
            self._replace(keys)
            self._there = _digests(keys)
        return keys

    def _merged(self, ours: Sequence[SeenKey], theirs: Sequence[SeenKey]) -> Sequence[SeenKey]:
        """A key that was there, and is not any more, was removed by another process: until we see it again."""
        gone = self._there - _digests(theirs)
        found = {key.digest: key for key in theirs}
        dropped: dict[str, int] = {}
        for key in ours:
            other = found.pop(key.digest, None)
            if other is None and (key.digest in gone or key.at <= self._dropped.get(key.digest, -1)):
                dropped[key.digest] = key.at
            else:
                found[key.digest] = max(key, other or key, key=_seen_at)
        self._dropped = dropped
        return sorted(found.values(), key=_seen_at)[-self._most :]

    def _decoded(self, content: bytes) -> Sequence[SeenKey] | None:
        """None if that is of another database, or damaged: nobody removed keys then."""
        if not content:  # somebody is just making it
            return None
        try:
            file = msgspec.json.decode(content, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _complain(error)
            return None
        return file.keys if file.database == self._database else None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, which nobody else replaces meanwhile."""
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(descriptor, self._path):  # else another was put in its place while we waited
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _replace(self, keys: Sequence[SeenKey]) -> None:
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


def _content(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _digests(keys: Sequence[SeenKey]) -> frozenset[str]:
    return frozenset(key.digest for key in keys)


def _seen_at(key: SeenKey) -> int:
    return key.at


def _complain(error: Exception) -> None:
    log.warning("keys: the file of those that were seen cannot be read", reason=type(error).__name__)
