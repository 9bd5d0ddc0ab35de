"""Backups of a SQLite database: its file as it was at one moment, whoever reads and writes meanwhile."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from ai_proxy.core.files import make_private, settle
from ai_proxy.storage.schema import HEAD
from ai_proxy.storage.sqlite import is_log_damaged

Tell = Callable[[int, int | None], None]  # how much is done, and of how much, if that is known

_HEADER = b"SQLite format 3\0"
_PAGES = 2048  # copied at a time
_BLOCK = 8 * 2**20
_PATIENCE = 2.0  # seconds
_OURS = frozenset({"alembic_version", "api_keys", "exchanges"})
_COMPANIONS = ("-wal", "-shm", "-journal")


class BackupFailed(Exception):
    """Why, in one line."""


def file_of(url: str) -> Path:
    return Path((make_url(url).database or "").removeprefix("file:"))


def back_up(source: Path, target: Path, tell: Tell) -> None:
    """Copy the database into the empty file `target`, and look whether it is whole. Raises `BackupFailed`.

    What is copied is what was there at the beginning: a transaction holds it. Without that the copy would begin anew
    with each change that somebody makes (https://www.sqlite.org/backup.html).
    """
    if not source.exists():
        message = f"there is no database at {source}"
        raise BackupFailed(message)
    if is_log_damaged(str(source)):
        message = f"{source}-wal is damaged"
        raise BackupFailed(message)
    with _failures(source), closing(_open(source, "mode=rw")) as origin, closing(_open(target, "mode=rw")) as copy:
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_master").fetchone()
        origin.backup(copy, pages=_PAGES, progress=lambda _, left, pages: tell(pages - left, pages))
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        _check(copy, target)


def check(path: Path) -> str:
    """The revision of a backup. Raises `BackupFailed` if it is none of ours, damaged, or of a newer version."""
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            message = f"{path} is no SQLite database"
            raise BackupFailed(message)
    if any(path.with_name(path.name + end).exists() for end in _COMPANIONS):
        message = f"{path} is a database in use and no backup: there are files of it beside it"
        raise BackupFailed(message)
    with _failures(path), closing(_open(path, "mode=ro&immutable=1")) as database:
        return _check(database, path)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else has this database open, and nobody can meanwhile. Raises `BackupFailed`. A damaged one is nobody's.

    Whoever has it open holds a lock on its file, so that its log cannot be ended. One that is damaged is not touched:
    SQLite would delete it.
    """
    if not path.exists() or is_log_damaged(str(path)):
        yield
        return
    with closing(_open(path, "mode=rw")) as database:
        try:
            database.execute("PRAGMA journal_mode = DELETE")
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                message = f"{path} is in use: stop the service first"
                raise BackupFailed(message) from None
        yield


def copy(source: Path, target: Path, tell: Tell) -> None:
    """Copy a file into a new one."""
    make_private(target)
    total, done = source.stat().st_size, 0
    with source.open("rb") as given, target.open("wb") as taken:
        while block := given.read(_BLOCK):
            taken.write(block)
            done += len(block)
            tell(done, total)
    settle(target)


def put_in_place(new: Path, path: Path) -> Path | None:
    """Returns what the former file is called now; None if there was none."""
    with closing(_open(new, "mode=rw")) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    settle(new)
    aside = path.with_name(f"{path.name}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for end in _COMPANIONS:
        companion = path.with_name(path.name + end)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + end))
    had_one = path.exists()
    if had_one:
        os.link(path, aside)  # so that there is one at any moment
    new.replace(path)
    settle(path.parent)
    return aside if had_one else None


def _check(database: sqlite3.Connection, path: Path) -> str:
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        message = f"{path} is damaged: {str(found).splitlines()[0]}"
        raise BackupFailed(message)
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables >= _OURS:
        message = f"{path} is a database of something else"
        raise BackupFailed(message)
    (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    return check_revision(str(revision))


def check_revision(revision: str) -> str:
    """Raises `BackupFailed` for one that this version does not know. They are numbers, and grow."""
    if not revision.isdecimal() or revision > HEAD:
        message = f"it was made by a newer version, which has the schema {revision!r}; this one has {HEAD}"
        raise BackupFailed(message)
    return revision


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        message = f"{path}: {error}"
        raise BackupFailed(message) from None


def _open(path: Path, options: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?{options}"
    return sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)
