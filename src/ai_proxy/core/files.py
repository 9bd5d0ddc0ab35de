"""Files that are there whole or not at all, and that nobody else may read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PRIVATE = 0o600


@contextmanager
def appearing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yields the name of an empty file beside `path`, which takes its place at the end, or is removed after a failure.

    Raises `FileExistsError` if there is one already, unless `force`.
    """
    if path.exists() and not force:
        message = f"{path} is there already: say --force to replace it"
        raise FileExistsError(message)
    part = path.with_name(f"{path.name}.part")
    make_private(part)
    try:
        yield part
        settle(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    settle(path.parent)


def make_private(path: Path) -> None:
    """Make an empty file, in place of what was there."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE))


def settle(path: Path) -> None:
    """See to it that a power cut leaves it as it is. A file system that cannot do so for a directory need not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
