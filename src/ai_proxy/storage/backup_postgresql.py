"""Backups of a PostgreSQL database, by the server's own programs: pg_dump and pg_restore."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from sqlalchemy import text

from ai_proxy.storage.backup_sqlite import BackupFailed, Tell, check_revision
from ai_proxy.storage.engine import Database

_LOOK = 0.2  # seconds between two looks at how far it is
_LONGEST_REASON = 300
_CONNECT_TIMEOUT = "10"  # seconds
_NOBODYS = ("--no-owner", "--no-privileges", "--no-password")


def back_up(url: str, target: Path, tell: Tell) -> None:
    """Write the database, as it is at the beginning, to a file. Raises `BackupFailed`."""
    options = ["--format=custom", "--lock-wait-timeout=10s", *_NOBODYS]
    _run("pg_dump", [*options, f"--file={target}", f"--dbname={_place(url)}"], url=url, growing=target, tell=tell)


def check(path: Path) -> str:
    """The revision of a backup. Raises `BackupFailed` if it is none of ours, damaged, or of a newer version."""
    said = _run("pg_restore", ["--data-only", "--table=alembic_version", "--file=-", str(path)])
    _, _, rows = said.partition("COPY public.alembic_version (version_num) FROM stdin;\n")
    revision = rows.partition("\n")[0]
    if not revision:
        message = f"{path} is a backup of something else"
        raise BackupFailed(message)
    return check_revision(revision)


def restore(url: str, path: Path, *, clean: bool) -> None:
    """Put it into the database, in one transaction; with `clean`, in place of what is there. Raises `BackupFailed`."""
    options = ["--single-transaction", "--exit-on-error", *_NOBODYS]
    if clean:
        options += ["--clean", "--if-exists"]
    _run("pg_restore", [*options, f"--dbname={_place(url)}", str(path)], url=url)


async def is_in_use(database: Database) -> bool:
    """Whether there is another connection of ours. The address may say what they are called."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_setting('application_name')"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with database.transaction() as connection:
        return bool(await connection.scalar(query))


def _run(
    program: str,
    arguments: Sequence[str],
    *,
    url: str | None = None,
    growing: Path | None = None,
    tell: Tell | None = None,
) -> str:
    """What it says. Its environment has the address and the password, which others could read among the arguments."""
    command = [_found(program), *arguments]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 - no shell reads it
            command, env=_environment(url), stdin=subprocess.DEVNULL, stdout=said, stderr=complaints
        )
        try:
            _wait(process, growing, tell)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise BackupFailed(_reason(program, _text(complaints)))
        return _text(said)


def _wait(process: "subprocess.Popen[bytes]", growing: Path | None, tell: Tell | None) -> None:
    while True:
        try:
            process.wait(_LOOK)
        except subprocess.TimeoutExpired:
            if tell is not None and growing is not None and growing.exists():
                tell(growing.stat().st_size, None)
        else:
            return


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not in the PATH: install PostgreSQL's client programs, not older than the server"
        raise BackupFailed(message)
    return path


def _environment(url: str | None) -> dict[str, str]:
    """Ours, in which a certificate may be named, and the address of the database."""
    given = dict(os.environ) if url is None else {**os.environ, **_told(url)}  # noqa: TID251 - of another program
    return {"PGCONNECT_TIMEOUT": _CONNECT_TIMEOUT, **given, "PGAPPNAME": "ai-proxy-backup", "LC_MESSAGES": "C"}


def _told(url: str) -> dict[str, str]:
    return {variable: value for variable, value, _ in _options(url) if variable}


def _place(url: str) -> str:
    """The database's name, and what there is no variable for."""
    # Imported here for its driver: a command for SQLite should not pay for that.
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    rest = {keyword: value for variable, value, keyword in _options(url) if not variable or keyword == "dbname"}
    if "sslpassword" in rest:
        message = "DATABASE_URL has an sslpassword, which these programs take from no environment: use a key without"
        raise BackupFailed(message)
    return make_conninfo(**rest)


def _options(url: str) -> list[tuple[str, str, str]]:
    """Of the address: variable, value and name of each part."""
    from psycopg.pq import Conninfo  # noqa: PLC0415

    parts = Conninfo.parse(url.replace("postgresql+psycopg:", "postgresql:").encode())
    return [
        ((part.envvar or b"").decode(), part.val.decode(), part.keyword.decode())
        for part in parts
        if part.val is not None
    ]


def _reason(program: str, complaints: str) -> str:
    if "server version mismatch" in complaints:
        return f"{program} is older than the server: install PostgreSQL's client programs in the server's version"
    lines = [line.partition("error: ")[2] or line for line in complaints.splitlines() if line.strip()]
    return f"{program}: {lines[0][:_LONGEST_REASON] if lines else 'it failed and says nothing'}"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(1_000_000).decode(errors="replace")
