"""ai-proxy db backup and ai-proxy db restore"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ai_proxy.cli import session
from ai_proxy.cli.progress import progress
from ai_proxy.core import databases, files
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.storage import backup_postgresql, backup_sqlite, schema
from ai_proxy.storage.backup_sqlite import BackupFailed
from ai_proxy.storage.engine import Database

Target = Annotated[Path, typer.Argument(help="The file to write.", show_default=False)]
Source = Annotated[Path, typer.Argument(help="A file that 'ai-proxy db backup' wrote.", show_default=False)]


def backup(
    file: Target, force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False
) -> None:
    """Copy the database, as it is now, to a file, while the service runs. The copy is checked.

    PostgreSQL: pg_dump must be in the PATH.

    Example: ai-proxy db backup backup-$(date +%F).db
    """
    settings = load_settings()
    with _failures(), progress("Copying", _unit(settings)) as tell, files.appearing(file, force=force) as part:
        if databases.is_on_a_server(settings.database_url):
            backup_postgresql.back_up(settings.database_url, part, tell)
            backup_postgresql.check(part)
        else:
            backup_sqlite.back_up(backup_sqlite.file_of(settings.database_url), part, tell)
    typer.echo(f"The database is in {file}.\n{_not_in_it(settings)}")


def restore(
    file: Source,
    force: Annotated[
        bool, typer.Option("--force", help="PostgreSQL: in place of what is in the database, which is lost.")
    ] = False,
) -> None:
    """Put a backup in place of the database, and bring it to the current schema. Stop the service first.

    SQLite: the former file stays beside it. PostgreSQL: the database must be empty, and pg_restore in the PATH.

    Example: ai-proxy db restore backup-2026-11-23.db
    """
    settings = load_settings()
    with _failures():
        if databases.is_on_a_server(settings.database_url):
            _restore_on_server(settings, file, force=force)
        else:
            _restore_file(settings, file)
    typer.echo(f"The database is that of {file} now.\n{_not_in_it(settings)}")


def _restore_file(settings: Settings, file: Path) -> None:
    path = backup_sqlite.file_of(settings.database_url)
    backup_sqlite.check(file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.restoring")
    with backup_sqlite.alone(path):
        try:
            with progress("Copying", "bytes") as tell:
                backup_sqlite.copy(file, new, tell)
            session.run(settings.model_copy(update={"database_url": f"sqlite+aiosqlite:///{new}"}), schema.upgrade)
            former = backup_sqlite.put_in_place(new, path)
        finally:
            new.unlink(missing_ok=True)
    if former is not None:
        typer.echo(f"What was there is {former} now.")


def _restore_on_server(settings: Settings, file: Path, *, force: bool) -> None:
    revision = backup_postgresql.check(file)
    found, is_in_use = session.run(settings, _look)
    if is_in_use:
        message = "the database is in use: stop the service first"
        raise BackupFailed(message)
    if found is not None and not force:
        message = "the database is not empty: make another one for DATABASE_URL, or say --force to lose what is in it"
        raise BackupFailed(message)
    if found is not None and found != revision:
        message = f"the database has the schema {found}, the backup {revision}: restore it into an empty database"
        raise BackupFailed(message)
    backup_postgresql.restore(settings.database_url, file, clean=found is not None)
    session.run(settings, schema.upgrade)


async def _look(database: Database) -> tuple[str | None, bool]:
    return await schema.current(database), await backup_postgresql.is_in_use(database)


def _unit(settings: Settings) -> str:
    return "bytes" if databases.is_on_a_server(settings.database_url) else "pages"


def _not_in_it(settings: Settings) -> str:
    secret = "AI_PROXY_SECRET" if settings.secret else f"the file {settings.data_directory / 'secret'}"
    line = f"Not in it, and no key works without it: {secret}."
    if settings.encryption.keys:
        line += "\nNot in it, and no text can be read without them: AI_PROXY_ENCRYPTION__KEYS."
    return line


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BackupFailed, FileExistsError) as error:
        message = f"ai-proxy: {error}"
    except OSError as error:
        message = f"ai-proxy: {error.filename or 'the file'}: {error.strerror}"
    else:
        return
    raise SystemExit(message)
