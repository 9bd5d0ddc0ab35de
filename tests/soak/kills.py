"""kill -9 at random moments under load: whatever was answered is in the history once, and all sums are right."""

import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

from tests.service import KEY, Service
from tests.soak import books
from tests.soak.load import Journal, Load
from tests.soak.places import PATIENCE, Administrator, Held, Place, place, service_before, tell
from tests.soak.provider import Provider

_LIFE = (0.3, 1.5)  # seconds under load before a kill
_EMPTY = 24  # bytes of a file of the spool without rows
# What happens to the database before the kill: nothing; or it is locked or stopped, and back before the next start, or
# only in the middle of the next life.
_TROUBLES = ("none", "none", "none", "locked", "locked over the start", "away", "away over the start")


class Result(NamedTuple):
    answered: int
    rows: int
    spooled: int  # kills with rows in the spool
    problems: list[str]


def run(kind: str, directory: Path, *, rounds: int, seed: int) -> Result:
    """The seed decides about the moments and the troubles; two runs still differ, as machines do."""
    dice = random.Random(seed)
    journal = Journal()
    directory.mkdir(exist_ok=True)
    spooled = 0
    with (
        place(kind, directory) as where,
        Provider() as provider,
        service_before(provider, where.store) as service,
        Administrator(service) as administrator,
    ):
        keys = (KEY, administrator.key_with_budget())
        held = None
        for number in range(rounds):
            trouble = dice.choice(_TROUBLES)
            with Load(service.url, journal, name=f"{number}", keys=keys):
                held = _one_life(where, dice, held, trouble)
                service.process.kill()
                service.process.wait()
            spooled += has_rows_in_spool(service)
            if held is not None and "over" not in trouble:
                held = held.end()
            service.start(PATIENCE)
            tell(f"{kind}: kill {number + 1} of {rounds}, database: {trouble}, {len(journal.answered)} answered")
        if held is not None:
            held.end()
        books.wait_until_settled(service)
        wrong = books.problems(where.store, journal, provider.asked)
        wrong += books.refusal_problems(journal)
        wrong += administrator.spending_problems(where.store)
        return Result(len(journal.answered), len(books.rows(where.store)), spooled, wrong)


def _one_life(where: Place, dice: random.Random, before: Held | None, trouble: str) -> Held | None:
    """Let time pass until the next kill. `before` is a trouble that lasts since the last one."""
    life = dice.uniform(*_LIFE)
    sig = dice.choice((signal.SIGINT, signal.SIGQUIT))
    time.sleep(life / 2)
    if before is not None:
        before.end()
    held = None
    if trouble != "none":
        held = Held(where.locked if "locked" in trouble else lambda: where.away(sig))
    time.sleep(life / 2)
    return held


def has_rows_in_spool(service: Service) -> bool:
    return any(path.stat().st_size > _EMPTY for path in service.directory.rglob("*.spool"))
