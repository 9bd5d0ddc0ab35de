"""The address of the database: which are taken, and how one looks without its password."""

import re
from pathlib import Path

_SQLITE = frozenset({"sqlite", "sqlite+aiosqlite"})
_POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_PASSWORDS = re.compile(r"(?<=://)([^:/?]*):(.*)(?=@)|((?:^|[?&])(?:ssl)?password=)([^&]*)")


def normalized(url: str) -> str:
    """The address with the name of the driver in it. Raises `ValueError`, whose message shows nothing of it."""
    scheme, separator, rest = url.partition("://")
    if scheme in _SQLITE and separator:
        return f"sqlite+aiosqlite://{_file(rest)}"
    if scheme in _POSTGRESQL and separator:
        return f"postgresql+psycopg://{_server(rest)}"
    message = "must begin with sqlite:///, as in sqlite:///data/ai-proxy.db, or with postgresql://"
    raise ValueError(message)


def is_on_a_server(url: str) -> bool:
    """Whether several machines may share this database."""
    return url.startswith("postgresql")


def directory(url: str) -> Path:
    """Where the files beside the database are: with a server, in the working directory's `data`."""
    return Path("data") if is_on_a_server(url) else Path(url.partition(":///")[2].partition("?")[0]).parent


def name(url: str) -> str:
    """What the database is called, wherever it is, in letters that a file's name may have."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", url.partition("?")[0].rpartition("/")[2])


def masked(url: str) -> str:
    return _PASSWORDS.sub(lambda found: f"{found[1]}:…" if found[3] is None else f"{found[3]}…", url)


def _file(rest: str) -> str:
    if not rest.startswith("/") or rest == "/" or ":memory:" in rest:
        message = "must name a file after three slashes, as in sqlite+aiosqlite:///data/ai-proxy.db"
        raise ValueError(message)
    return rest


def _server(rest: str) -> str:
    place = rest.partition("?")[0].rpartition("@")[2]
    host, slash, name = place.partition("/")
    port = host.rpartition("]")[2].partition(":")[2]
    if not (slash and name) or "/" in name:
        message = "must name a database after the server, as in postgresql://user:password@localhost:5432/ai_proxy"
        raise ValueError(message)
    if port and not (port.isdecimal() and int(port) < 2**16):
        message = "must have a number for a port; in a name or a password, write / as %2F, @ as %40, : as %3A, ? as %3F"
        raise ValueError(message)
    return rest
