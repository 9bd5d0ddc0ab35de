"""The spool's files: records one after another, each with its length and checksums, so that damage is noticed.

A file begins with `_MAGIC` and a marker: eight random bytes that stand before each record, by which the next one is
found behind a damaged one. No caller knows them, so no body can pretend to be a record. Numbers are little-endian.
"""

import fcntl
import os
import secrets
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Self
from zlib import crc32

_MAGIC = b"ai-proxy spool 1"
_MARKER = 8
_BEGINNING = len(_MAGIC) + _MARKER
_HEAD = struct.Struct(f"<{_MARKER}sIII")  # marker, length and checksum of the record, checksum of these three
_CHECKED = _HEAD.size - 4
_BLOCK = 1 << 16


class Segment:
    """One file, which belongs to the process that has it locked. Not for two threads at a time.

    `records` have not been read yet, `damaged` ones were passed over. One that `is_inherited` was begun by another.
    """

    def __init__(self, path: Path, descriptor: int, marker: bytes) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self.records = 0
        self.damaged = 0
        self.is_inherited = False
        self._descriptor = descriptor
        self._marker = marker
        self._position = _BEGINNING

    @classmethod
    def make(cls, path: Path) -> Self:
        """A new one. It is locked before it has its name, so that nobody takes it for one that nobody owns."""
        draft, marker = path.with_name(f".{path.name}"), secrets.token_bytes(_MARKER)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(descriptor, _MAGIC + marker, 0)
            os.fsync(descriptor)
            draft.rename(path)
            sync_directory(path.parent)
        except OSError:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, marker)

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """One that is there; None if another process owns it, or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = cls(path, descriptor, _marker(descriptor))
            if found.is_in_place:  # else its owner removed it after we had opened it
                found.records = found._count()
                found.is_inherited = True
                return found
        except BlockingIOError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still where it was: what is written to one that was deleted or moved is not kept here."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    @property
    def is_read(self) -> bool:
        return self._position >= self.size

    def append(self, payloads: Iterable[bytes]) -> int:
        """Write records and see them on the disk. Returns how many bytes. After an `OSError` none of them is there."""
        end, count = self.size, 0
        try:
            for payload in payloads:
                end += _write(self._descriptor, self._head(payload) + payload, end)
                count += 1
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        written, self.size = end - self.size, end
        self.records += count
        return written

    def _head(self, payload: bytes) -> bytes:
        head = _HEAD.pack(self._marker, len(payload), crc32(payload), 0)[:_CHECKED]
        return head + crc32(head).to_bytes(4, "little")

    def read(self, *, most: int, most_bytes: int) -> list[bytes]:
        """The next records: `most` of them, and no more once there are `most_bytes`. None at the end."""
        found: list[bytes] = []
        size = 0
        while len(found) < most and size < most_bytes and (payload := self._next()) is not None:
            found.append(payload)
            size += len(payload)
        self.records -= len(found)
        return found

    def _next(self) -> bytes | None:
        while (head := self._find_head()) is not None:
            length, checksum = head
            payload = os.pread(self._descriptor, length, self._position + _HEAD.size)
            if len(payload) < length:  # a tail that was torn off as it was written: nobody was told that it is there
                break
            self._position += _HEAD.size + length
            if crc32(payload) == checksum:
                return payload
            self.damaged += 1
        self._position = self.size
        return None

    def _find_head(self) -> tuple[int, int] | None:
        """Length and checksum of the record at the position, or of the next whose head is whole. None at the end."""
        while not self.is_read:
            head = os.pread(self._descriptor, _HEAD.size, self._position)
            if (found := _parse(head, self._marker)) is not None:
                return found
            if len(head) < _HEAD.size or self._is_empty():
                return None
            self.damaged += 1
            self._position = self._next_marker(self._position + 1)
        return None

    def _is_empty(self) -> bool:
        """Whether there are only zeros from here on: after a power cut a file may be longer than what was written."""
        position = self._position
        while block := os.pread(self._descriptor, _BLOCK, position):
            if block.count(0) < len(block):
                return False
            position += len(block)
        return True

    def _next_marker(self, position: int) -> int:
        while len(block := os.pread(self._descriptor, _BLOCK, position)) >= _MARKER:
            found = block.find(self._marker)
            if found >= 0:
                return position + found
            position += len(block) - _MARKER + 1
        return self.size

    def _count(self) -> int:
        """How many records there seem to be, by their heads alone. Afterwards nothing has been read."""
        count = 0
        while (head := self._find_head()) is not None:
            self._position += _HEAD.size + head[0]
            count += 1
        self._position, self.damaged = _BEGINNING, 0
        return count

    def close(self) -> None:
        """The file stays, for whoever adopts it."""
        os.close(self._descriptor)

    def remove(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)  # so that no power cut brings back what somebody may have deleted since
        finally:
            self.close()

    def set_aside(self) -> Path:
        """Keep a damaged file under another name. Returns that."""
        try:
            return self.path.rename(self.path.with_suffix(".damaged"))
        finally:
            self.close()


def sync_directory(directory: Path) -> None:
    """See the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes, position: int) -> int:
    """All of it: a write may take a part only, as just before the disk is full."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        position += written
        rest = rest[written:]
    return len(data)


def _parse(head: bytes, marker: bytes) -> tuple[int, int] | None:
    """Length and checksum of a record; None if this is not the head of one."""
    if len(head) < _HEAD.size:
        return None
    found, length, checksum, own = _HEAD.unpack(head)
    return (length, checksum) if found == marker and crc32(head[:_CHECKED]) == own else None


def _marker(descriptor: int) -> bytes:
    """As the file's beginning has it; should that be damaged, as its first record has it."""
    data = os.pread(descriptor, _BEGINNING + _HEAD.size, 0)
    said, head = data[len(_MAGIC) : _BEGINNING], data[_BEGINNING:]
    return said if _parse(head, head[:_MARKER]) is None else head[:_MARKER]


def append_line(path: Path, line: bytes) -> int:
    """As a whole, with other processes at work on the same file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # somebody did not finish
            line = b"\n" + line
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return len(line)
