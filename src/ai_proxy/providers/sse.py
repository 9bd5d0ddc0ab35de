"""Server-sent events, as they come in: bytes cut anywhere become the data of whole events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (section 9.2.5 and 9.2.6), but for one thing: an
event that the end of the stream cuts off before its blank line is delivered, because some providers forget that line.
"""

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"


class EventSplitter:
    """Feed it blocks of bytes; it gives back the data of the events that are complete.

    Lines end in LF, CR or CRLF. Bytes are never decoded, so a character may be cut in two. The size of the buffer is
    bounded by the caller, who counts the bytes of the whole answer.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # how far the buffer is known to hold no blank line
        self._skip_line_feed = False
        self._at_start = True

    def feed(self, block: bytes) -> list[bytes]:
        if self._is_one_event(block):
            self._at_start = False
            return [block[6:-2]]
        self._buffer += self._with_line_feeds(block)
        if self._at_start and not self._strip_mark():
            return []
        events = []
        while (end := self._buffer.find(_BLANK_LINE, self._scanned)) >= 0:
            data = _data(bytes(self._buffer[:end]))
            del self._buffer[: end + 2]
            self._scanned = 0
            if data is not None:
                events.append(data)
        self._scanned = max(len(self._buffer) - 1, 0)
        return events

    def _is_one_event(self, block: bytes) -> bool:
        """Whether it is one whole line of data and nothing else, as most are that providers send."""
        return (
            block.find(b"\n") == len(block) - 2
            and block.startswith(b"data: ")
            and block.endswith(_BLANK_LINE)
            and b"\r" not in block
            and not self._buffer
            and not self._skip_line_feed
        )

    def close(self) -> list[bytes]:
        """The event that the stream ended in, if any."""
        data = _data(bytes(self._buffer))
        self._buffer.clear()
        return [] if data is None else [data]

    def _with_line_feeds(self, block: bytes) -> bytes:
        if self._skip_line_feed and block:
            self._skip_line_feed = False
            block = block.removeprefix(b"\n")
        if b"\r" not in block:
            return block
        self._skip_line_feed = block.endswith(b"\r")  # the other half of a CRLF may be in the next block
        return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _strip_mark(self) -> bool:
        """Drop a byte order mark from the beginning. False while there are too few bytes to tell."""
        if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
            return False
        if self._buffer.startswith(_BOM):
            del self._buffer[: len(_BOM)]
        self._at_start = False
        return True


def _data(event: bytes) -> bytes | None:
    """The data of one event: its `data` lines, joined by line feeds. None if it has none (a comment, a bare id)."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [_value(line) for line in event.split(b"\n") if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
