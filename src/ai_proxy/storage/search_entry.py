"""What the index of words has of one exchange."""

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """`number` is that of the exchange in the index, 0 as long as it has none. `facets` are words, with blanks."""

    exchange_id: str
    text: str
    facets: str
    number: int
