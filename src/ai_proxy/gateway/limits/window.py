"""A sliding window of sixty seconds: how much was taken of one thing, in whole seconds.

An amount counts until sixty seconds after the end of the second in which it was taken. So in no sixty seconds at all,
wherever they begin, more is taken than the limit; what is taken comes free after 60 to 61 seconds.
"""

SECONDS = 60
SLOTS = SECONDS + 1


class Window:
    """One slot a second, in a ring. Times are readings of a clock in seconds."""

    __slots__ = ("_second", "_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * SLOTS
        self._second = 0
        self.total = 0

    def advance(self, second: int) -> None:
        """Forget what is over. It must not be earlier than before."""
        before, self._second = self._second, second
        if not self.total:
            return
        if second - before >= SLOTS:
            self._slots = [0] * SLOTS
            self.total = 0
            return
        slots = self._slots
        for over in range(before + 1, second + 1):
            place = over % SLOTS
            self.total -= slots[place]
            slots[place] = 0

    def take(self, amount: int) -> None:
        """In the second of the last `advance`."""
        self._slots[self._second % SLOTS] += amount
        self.total += amount

    def correct(self, second: int, change: int) -> None:
        """What was taken in `second` was more or less. It no longer matters once that has left the window."""
        if second > self._second - SLOTS:
            self._slots[second % SLOTS] += change
            self.total += change

    def wait(self, amount: int, limit: int, now: float) -> float:
        """Seconds until `amount`, which must not be larger than the limit, fits under it."""
        over = self.total + amount - limit
        for second in range(self._second - SECONDS, self._second + 1):
            if over <= 0:
                break
            over -= self._slots[second % SLOTS]
            if over <= 0:
                return second + SLOTS - now
        return 0.0

    def reset(self, now: float) -> float:
        """Seconds until all is free."""
        second = self._second
        if self.total:
            while not self._slots[second % SLOTS]:
                second -= 1
            return second + SLOTS - now
        return 0.0
