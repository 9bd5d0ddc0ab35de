"""How often a login may be tried: by account and by address, with waits that double."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from ai_proxy.core.exceptions import LoginThrottled

_FREE_OF_ACCOUNT, _FREE_OF_ADDRESS = 5, 20  # tries before the first wait
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 900.0  # seconds
_FORGOTTEN = 3600.0  # seconds after the last wait
_SIZE = 20_000
_IPV6_NETWORK = 64  # bits: what one subscriber has

Bucket = tuple[str, ...]


class _Tries(msgspec.Struct):
    count: int = 0
    until: float = 0.0


class Throttle:
    """Counts a try before its password is checked, so that many at one time are counted too.

    Where an account is at home, at an address that it has signed in from, only tries of that account from that address
    count: nobody elsewhere can lock its owner out. Unknown accounts are counted like others. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, size: int = _SIZE) -> None:
        self._clock = clock
        self._size = size
        self._tries: OrderedDict[Bucket, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def admit(self, account: str, address: str, *, at_home: bool = False) -> None:
        """Count a try. Raises `LoginThrottled` if it must wait; then it does not count."""
        now = self._clock()
        buckets = _buckets(account, address, at_home=at_home)
        wait = max(self._wait(bucket, now) for bucket in buckets)
        if wait > 0:
            message = "Too many failed logins: wait, or use the command line."
            raise LoginThrottled(message, retry_after=wait)
        for bucket in buckets:
            self._count(bucket, now)

    def succeeded(self, account: str, address: str, *, at_home: bool = False) -> None:
        """The try was none of a guesser: the account starts anew, and the address gets its try back."""
        self.take_back(account, address, at_home=at_home)
        for bucket in _buckets(account, address, at_home=at_home):
            if bucket[0] != "address":
                self._tries.pop(bucket, None)

    def take_back(self, account: str, address: str, *, at_home: bool = False) -> None:
        """The try that was counted last was none: its password was never looked at."""
        for bucket in _buckets(account, address, at_home=at_home):
            if (tries := self._tries.get(bucket)) is not None:
                tries.count = max(0, tries.count - 1)
                tries.until = self._clock()

    def recall(self, account: str, address: str, at: float) -> None:
        """Count a try of before the last start that failed at this time."""
        if at > self._clock() - _FORGOTTEN:
            for bucket in _buckets(account, address, at_home=False):
                self._count(bucket, at)

    def _wait(self, bucket: Bucket, now: float) -> float:
        tries = self._tries.get(bucket)
        return 0.0 if tries is None else tries.until - now

    def _count(self, bucket: Bucket, now: float) -> None:
        tries = self._tries.get(bucket)
        if tries is None or tries.until + _FORGOTTEN < now:
            tries = self._tries[bucket] = _Tries()
        self._tries.move_to_end(bucket)
        tries.count += 1
        over = tries.count - (_FREE_OF_ADDRESS if bucket[0] == "address" else _FREE_OF_ACCOUNT)
        wait = 0.0 if over < 0 else min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(over, 30))
        tries.until = now + wait
        while len(self._tries) > self._size:
            self._tries.popitem(last=False)


def _buckets(account: str, address: str, *, at_home: bool) -> tuple[Bucket, ...]:
    network = _network(address)
    return (("home", account, network),) if at_home else (("account", account), ("address", network))


def _network(address: str) -> str:
    """An address as it is counted: all that one subscriber can send from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK), strict=False))
