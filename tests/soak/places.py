"""A database that may be taken away, and a service before it that has prices and a budget."""

import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

from tests import stores
from tests.postgres import Postgres
from tests.service import Service
from tests.soak.provider import Provider
from tests.stores import Store

_SPENT = "select key_id, sum(cost) from daily_usage group by 1"
PATIENCE = 60.0  # seconds for what takes two on a machine that has nothing else to do
_WAIT = 0.2  # seconds that an answer waits for its row


def seed() -> int:
    """Of everything that is left to chance: SOAK_SEED, or a new one."""
    return int(os.environ.get("SOAK_SEED") or secrets.randbelow(10**6))


def tell(line: str) -> None:
    """Progress, for a person: `pytest -s` shows it."""
    sys.stderr.write(f"{line}\n")


class Place:
    """`server` is the database's own, None for a file."""

    def __init__(self, store: Store, server: Postgres | None) -> None:
        self.store = store
        self.server = server

    @contextmanager
    def away(self, sig: int = signal.SIGINT) -> Iterator[None]:
        """The server is stopped; a file is locked, which is as near as it comes."""
        if self.server is None:
            with self.locked():
                yield
            return
        self.server.stop(sig)
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can write to the history."""
        with self.store.locked():
            yield


@contextmanager
def place(kind: str, directory: Path) -> Iterator[Place]:
    if kind == "sqlite":
        yield Place(stores.in_file(directory), None)
        return
    with Postgres() as server:
        yield Place(Store(server.new_database(), directory), server)


@contextmanager
def service_before(
    provider: Provider, store: Store, *, command: list[str] | None = None, **settings
) -> Iterator[Service]:
    """It is running. `settings` are more of its environment."""
    given = {"AI_PROXY_RECORDER__WAIT": _WAIT, **store.settings, **settings}
    service = Service(store.directory, command=command, **given).configure(**provider.settings)
    service.start(PATIENCE)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        service.client.close()


class Administrator:
    """Use as a context manager: somebody who may see what was spent."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client = service.client_with(self._new_key("administrator", "--scope", "manage")[1])

    def __enter__(self) -> "Administrator":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def key_with_budget(self) -> str:
        """Of a budget that does not run out."""
        key_id, key = self._new_key("budgeted")
        self._give_budget(f"key/{key_id}")
        return key

    def spending_problems(self, store: Store) -> list[str]:
        """Whether the service believes that so much was spent as the ledger says."""
        self._give_budget("service")
        found = self._client.get("/api/budgets").raise_for_status().json()["items"]
        believed = {item["subject"]: int(Decimal(item["spent_usd"]) * 10**9) for item in found}
        self._client.delete("/api/budgets/service/total").raise_for_status()
        spent = {f"key:{key_id}": int(cost) for key_id, cost in store.query(_SPENT)}
        ledger = {subject: sum(spent.values()) if subject == "service" else spent[subject] for subject in believed}
        return [] if believed == ledger else [f"the ledger says {ledger}, the budgets {believed}"]

    def _give_budget(self, subject: str) -> None:
        self._client.put(f"/api/budgets/{subject}/total", json={"amount_usd": "1000000"}).raise_for_status()

    def _new_key(self, name: str, *arguments: str) -> tuple[str, str]:
        """Its id, and the key."""
        created = self._service.run("keys", "create", name, *arguments).stdout
        found = dict(re.findall(r"^(id|key): +(\S+)$", created, re.MULTILINE))
        return found["id"], found["key"]


class Held:
    """A context that another thread is in, from now until `end`."""

    def __init__(self, context: Callable[[], object]) -> None:
        self._context = context
        self._entered, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()
        assert self._entered.wait(PATIENCE)

    def end(self) -> None:
        self._leave.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _hold(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._context())
            self._entered.set()
            self._leave.wait()
