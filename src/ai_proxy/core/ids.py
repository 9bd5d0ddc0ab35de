"""Identifiers that sort by time (UUID version 7, RFC 9562 section 5.7)."""

import random
import time

# Unique, not secret: nothing is protected by an id that cannot be guessed, and the system's source costs a call each.
_random = random.Random().getrandbits  # noqa: S311

_last_ms = 0
_last_sequence = 0


def uuid7() -> str:
    """A UUIDv7 in its usual text form. Within a process, each one sorts after those before it."""
    global _last_ms, _last_sequence  # noqa: PLW0603 - the clock of the process is global too
    ms = time.time_ns() // 1_000_000
    if ms > _last_ms:
        _last_ms = ms
        _last_sequence = _random(29)  # of 32 bits: leaves room to count up
    else:
        _last_sequence += 1
    sequence = _last_sequence  # 32 bits: the 12 of rand_a, then the first 20 of rand_b
    tail = _random(42)  # the rest of rand_b
    value = (_last_ms << 80) | (0x7 << 76) | (sequence >> 20 << 64) | (0b10 << 62) | ((sequence & 0xFFFFF) << 42) | tail
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_of(identifier: str) -> int:
    """When it was made, to the millisecond, in microseconds since the epoch."""
    return int(identifier[:8] + identifier[9:13], 16) * 1000


def first_of(instant: int) -> str:
    """The lowest identifier of the millisecond of this time, which is in microseconds since the epoch."""
    milliseconds = f"{max(0, instant // 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"
