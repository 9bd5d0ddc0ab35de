"""The database goes away under load and comes back: nobody who is known is refused, and nothing is lost."""

import signal
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import httpx2

from tests.service import KEY, Service
from tests.soak import books
from tests.soak.load import KNOWN_WAYS, Journal, Load
from tests.soak.places import PATIENCE, Administrator, place, service_before, tell
from tests.soak.provider import Provider

_BETWEEN = 0.5  # seconds that the database is there between two outages
_SHORT = 0.3  # seconds between a stop and a start
_RECOVERY = 5.0  # seconds after which everything works again


class Result(NamedTuple):
    answered: int
    recoveries: list[float]  # seconds from the end of each outage until everything worked
    drained: float  # seconds from the end of the long one until what had waited was in the history
    slowest: float  # seconds that the slowest call took
    during: int  # calls that were answered while the database was away
    problems: list[str]


class Outage(NamedTuple):
    """Seconds from its end until everything worked, and until nothing waited any more for the history."""

    during: int
    recovered: float
    drained: float


class Watch:
    """Use as a context manager: meanwhile it asks what nobody else does, again and again."""

    def __init__(self, service: Service) -> None:
        self.problems: list[str] = []
        self._service = service
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._as_a_stranger, self._whether_it_lives)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _as_a_stranger(self) -> None:
        """Whose key nobody made. While nobody can know that, he is not told that it is wrong."""
        with self._service.client_with("a-key-that-nobody-has-ever-made") as client:
            while not self._ending.wait(0.2):
                status = client.post("/api/ask", json={"question": "who?"}).status_code
                if status not in {401, 503}:
                    self.problems.append(f"a stranger got {status}")

    def _whether_it_lives(self) -> None:
        with httpx2.Client(base_url=self._service.url, timeout=PATIENCE) as client:
            while not self._ending.wait(0.2):
                if (status := client.get("/livez").status_code) != 200:
                    self.problems.append(f"/livez said {status}")


def run(kind: str, directory: Path, *, restarts: int, outage: float) -> Result:
    """So many restarts, then one outage of so many seconds: a server is stopped, a file locked."""
    directory.mkdir(exist_ok=True)
    journal = Journal()
    with (
        place(kind, directory) as where,
        Provider() as provider,
        service_before(provider, where.store) as service,
        Administrator(service) as administrator,
    ):
        with (
            Load(service.url, journal, name="load", ways=KNOWN_WAYS, keys=(KEY, administrator.key_with_budget())),
            Watch(service) as watch,
        ):
            until_known(journal)
            all_outages = [
                _outage(service, where.away((signal.SIGINT, signal.SIGQUIT)[number % 2]), journal, _SHORT)
                for number in range(restarts)
            ]
            all_outages.append(longest := _outage(service, where.away(), journal, outage))
        recoveries = [each.recovered for each in all_outages]
        books.wait_until_settled(service)
        wrong = books.problems(where.store, journal, provider.asked) + watch.problems
        wrong += [f"{refusal.token} got {refusal.status}: {refusal.body[:200]}" for refusal in journal.refused]
        wrong += [f"{token} broke off" for token in journal.broken | journal.failed]
        wrong += [f"it took {seconds:.1f} s to recover" for seconds in recoveries if seconds > _RECOVERY]
        wrong += books.unrecorded(where.store, provider.asked)
        wrong += administrator.spending_problems(where.store)
        return Result(len(journal.answered), recoveries, longest.drained, journal.slowest, longest.during, wrong)


def until_known(journal: Journal) -> None:
    """Both keys are known to the service."""
    give_up = time.monotonic() + PATIENCE
    while len(journal.answered) < 20:
        assert time.monotonic() < give_up, "nothing is answered"
        time.sleep(0.05)


def _outage(service: Service, away: AbstractContextManager, journal: Journal, seconds: float) -> Outage:
    with away:
        before = len(journal.answered)
        time.sleep(seconds)
        during = len(journal.answered) - before
    began = time.monotonic()
    service.eventually(lambda: _works(service), PATIENCE, pause=0.05)
    recovered = time.monotonic() - began
    service.eventually(lambda: not books.metric(service, "aiproxy_records_spooled"), PATIENCE, pause=0.05)
    outage = Outage(during, recovered, time.monotonic() - began)
    tell(f"{seconds} s without the database: {outage}")
    time.sleep(_BETWEEN)
    return outage


def _works(service: Service) -> bool:
    """It says that it is ready, and what needs the database is answered."""
    return all(service.client.get(path).status_code == 200 for path in ("/readyz", "/api/history"))
