"""Room on the disk that is kept for the worst moment: for the rows of calls that run already when it is full."""

import errno
import os
from contextlib import suppress
from pathlib import Path

RESERVE = 8 * 2**20  # bytes

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """A file that processes share: whoever needs its room takes it for all. `lacks_room` while there is none for it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "reserve"
        self.lacks_room = False

    def ensure(self) -> None:
        """Make it if it is not there."""
        try:
            if not self._is_there():
                self._make()
        except OSError as error:
            self.lacks_room = is_full(error)
        else:
            self.lacks_room = False

    def _is_there(self) -> bool:
        try:
            return self._path.stat().st_size == RESERVE
        except FileNotFoundError:
            return False

    def _make(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE)
        except OSError:
            with suppress(OSError):
                self._path.unlink()  # what there is of it would be in the way of the rows
            raise
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """The disk is full. Whether there is more room now."""
        self.lacks_room = True
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def is_full(error: OSError) -> bool:
    """Whether it is for want of room on the disk."""
    return error.errno in _FULL
