"""A database for one test, in a file or on a server, and what is in it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ai_proxy.core import databases
from ai_proxy.core.types import Exchange
from ai_proxy.storage import history
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Wanted
from tests import postgres

SECRET = "the-secret-of-the-tests-own-keys"
STORES = ("sqlite", "postgresql")


class Store:
    """`settings` are those of a service that uses it. The file of a SQLite database is `file`."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = databases.normalized(url)
        self.on_server = databases.is_on_a_server(self.url)
        self.directory = directory
        self.file = directory / "x.db"
        self.settings = {"DATABASE_URL": url, "AI_PROXY_SECRET": SECRET}

    def database(self, **options) -> Database:
        return Database(self.url, directory=self.directory, **options)

    def query(self, sql: str) -> Sequence[tuple]:
        """What it answers to one statement, committed at once, whoever else is at work."""
        if self.on_server:
            return postgres.query(self.url, sql)
        with closing(sqlite3.connect(self.file, timeout=10, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Meanwhile another process holds the lock that whoever writes to the history needs."""
        if self.on_server:
            with postgres.connected(self.url) as connection:
                connection.execute("begin; lock table exchanges in access exclusive mode")
                yield
        else:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
                connection.execute("begin immediate")
                yield

    def tables(self) -> list[str]:
        catalog = "select tablename from pg_tables where schemaname = 'public'"
        found = self.query(catalog if self.on_server else "select name from sqlite_master where type = 'table'")
        return sorted(name for (name,) in found)


def in_file(directory: Path) -> Store:
    return Store(f"sqlite:///{directory}/x.db", directory)


def exchange(identifier: str, **fields) -> Exchange:
    given = {"key_id": "key", "question": "q", "answer": "a", "model": "m", "conversation_id": None, "created_at": 1}
    return Exchange(id=identifier, started=0.0, **{**given, **fields})


async def page(database: Database) -> list[Exchange]:
    async with database.transaction() as connection:
        found = await history.page(database, connection, Wanted(key="key"), limit=100)
    return [entry.exchange for entry in found.entries]
