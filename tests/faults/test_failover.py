"""P5: a PostgreSQL server hands over to its standby while calls are under way."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.postgres import Postgres
from tests.service import Service
from tests.stores import Store
from tests.wiretap import Wiretap

CALLERS, READERS = 4, 5
ONE, BOTH = "one address", "both addresses"


@pytest.fixture
def primary():
    with Postgres() as server:
        yield server


@pytest.fixture
def standby(primary):
    with Postgres(primary) as server:
        yield server


class Calls:
    """Use as a context manager: some callers ask one question after the other meanwhile. `statuses` are by question."""

    def __init__(self, service: Service) -> None:
        self.statuses: dict[str, int] = {}
        self._service = service
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> "Calls":
        self._running = [self._pool.submit(self._ask, number) for number in range(CALLERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def errors(self) -> list[BaseException]:
        return [error for caller in self._running if (error := caller.exception())]

    def _ask(self, caller: int) -> None:
        number = 0
        while not self._over.wait(0.02):
            number += 1
            question = f"caller {caller}: {number}"
            self.statuses[question] = self._service.ask(question).status_code


def stop(primary: Postgres, _: Service) -> None:
    """It ends when its standby has everything."""
    primary.stop()


def make_read_only(primary: Postgres, service: Service) -> None:
    """All connections stay, and the standby has everything in the end."""
    primary.query("alter system set default_transaction_read_only = on")
    primary.query("select pg_reload_conf()")
    service.eventually(lambda: service.client.get("/readyz").status_code == 503)
    service.eventually(
        lambda: primary.query("select pg_current_wal_lsn() = replay_lsn from pg_stat_replication") == [(True,)]
    )


def newest(service: Service) -> set[str]:
    """The newest questions, as several readers see them at one time."""
    with ThreadPoolExecutor(READERS) as pool:
        pages = list(pool.map(lambda _: service.history(limit=1), range(READERS)))
    return {page[0]["question"] for page in pages}


@pytest.mark.parametrize(("demote", "addresses"), [(stop, ONE), (stop, BOTH), (make_read_only, ONE)])
def test_fault_p5_after_a_failover_calls_go_on_and_each_row_is_in_the_new_primary_once(
    start, tmp_path, primary, standby, demote, addresses
):
    store = Store(primary.new_database(), tmp_path)
    ((name,),) = store.query("select current_database()")
    successor = Store(standby.url(name), tmp_path)

    with Wiretap(primary.directory) as wire:
        both = f"{store.url},{standby.directory}&target_session_attrs=read-write"
        address = both if addresses == BOTH else f"{wire.url(store.url)}?sslmode=disable"
        service = start(AI_PROXY_RECORDER__WAIT=0.3, **{**store.settings, "DATABASE_URL": address})
        service.ask("before").raise_for_status()
        newest(service)
        with Calls(service) as calls:
            service.eventually(lambda: len(calls.statuses) > 10)
            demote(primary, service)
            standby.query("select pg_promote()")
            wire.directory = standby.directory
            service.eventually(lambda: service.client.get("/readyz").status_code == 200, 5)
        after = service.ask("after").status_code
        at_once = successor.query("select question from exchanges order by id desc limit 1")
        read = newest(service)
        expected = Counter(["before", "after", *calls.statuses])
        service.eventually(lambda: questions(successor) == expected, 20)

    assert calls.errors() == []
    assert set(calls.statuses.values()) == {after} == {200}
    assert at_once == [("after",)]
    assert read == {"after"}


def questions(store: Store) -> Counter[str]:
    """How often each is in the history."""
    return Counter(question for (question,) in store.query("select question from exchanges"))
