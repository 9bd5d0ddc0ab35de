"""Work on the database from the command line: a lock is waited for, and what goes wrong is one line."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import DatabaseUnavailable, GatewayError
from ai_proxy.services import setup
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Database, outlast_lock

T = TypeVar("T")

# What fields of the API are called on the command line.
_OPTIONS = {
    "alerts": "--alert",
    "amount_usd": "AMOUNT",
    "expires_at": "--expires",
    "format": "--format",
    "from": "--from",
    "group_by": "--by",
    "key": "--key",
    "labels": "--label",
    "max_cost_usd": "--max-cost",
    "min_cost_usd": "--min-cost",
    "models": "--model",
    "overlap": "--overlap",
    "q": "WORDS",
    "scopes": "--scope",
    "to": "--to",
}


def run(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database of the settings. Exits with a clear line if that fails."""

    async def work_and_close() -> T:
        cipher = Cipher.of(settings.encryption)
        async with Database(settings.database_url, directory=settings.data_directory, cipher=cipher) as database:
            return await outlast_lock(lambda: work(database))

    try:
        return asyncio.run(work_and_close())
    except DatabaseUnavailable as error:
        message = f"ai-proxy: DATABASE_URL: the database cannot be used: {error.reason}"
    except GatewayError as error:
        message = f"ai-proxy: {_in_words_of_the_command_line(error)}"
    except UnicodeEncodeError:  # what was typed came as bytes
        message = "ai-proxy: what was typed is no text in UTF-8"
    raise SystemExit(message)


def at_schema(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """The same, after the database was brought to the current schema."""

    async def migrate_and_work(database: Database) -> T:
        await setup.settle_schema(settings, database)
        return await work(database)

    return run(settings, migrate_and_work)


def _in_words_of_the_command_line(error: GatewayError) -> str:
    field, colon, rest = error.message.partition(": ")
    return f"{_OPTIONS[field]}{colon}{rest}" if field == error.param and field in _OPTIONS else error.message
