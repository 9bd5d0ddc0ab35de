"""Blocks of bytes put together to records: lines of JSON, or rows of CSV."""

from collections.abc import Iterator

LONGEST = 64 * 2**20  # bytes

_BOM = b"\xef\xbb\xbf"


class Records:
    """Each comes with the number of the line that it begins in, counted from 1. One that is too long is None: nobody
    keeps it.

    What the first record begins with tells the form: lines of JSON with a brace, and CSV with any other sign. A line's
    end that is in quotes is none of a row of CSV (RFC 4180). `are_rows` is known as soon as there is a record.
    """

    def __init__(self) -> None:
        self.are_rows: bool | None = None
        self._line = self._first = 1
        self._begun = bytearray()
        self._size = 0
        self._in_quotes = False

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes | None]]:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            self._keep(piece)
            self._line += 1
            if self._in_quotes:
                self._keep(b"\n")
            else:
                yield from self.end()
        self._keep(rest)

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """What has begun ends here. Empty lines are none, but count."""
        number, self._first = self._first, self._line
        too_long, record = self._size > LONGEST, bytes(self._begun)
        self._begun, self._size = bytearray(), 0
        if number == 1:
            record = record.removeprefix(_BOM)
        if too_long:
            yield number, None
        elif stripped := record.strip():
            if self.are_rows is None:
                self.are_rows = not stripped.startswith(b"{")
            yield number, record if self.are_rows else stripped

    def _keep(self, piece: bytes) -> None:
        if self.are_rows and piece.count(b'"') % 2:
            self._in_quotes = not self._in_quotes
        self._size += len(piece)
        if self._size > LONGEST:
            self._begun = bytearray()
        else:
            self._begun += piece
