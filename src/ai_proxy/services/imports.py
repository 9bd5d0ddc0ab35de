"""Exchanges that come from elsewhere, one by one: what is there stays as it is, and a bad line keeps out no other."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.types import OPERATOR_ID, Actor
from ai_proxy.services import arrivals, chats, sheets
from ai_proxy.services.arrivals import BadLine
from ai_proxy.services.audit import note
from ai_proxy.services.framing import LONGEST, Records
from ai_proxy.storage import transfer
from ai_proxy.storage.engine import Connection, Database, outlast_lock
from ai_proxy.storage.transfer import Arrival, Key

_ROWS, _BYTES = 500, 4 * 2**20  # that are written in one transaction, or one line if that is longer
_MOST_SHOWN = 20
_LONGEST_REASON = 200
_MOST_KNOWN = 1000  # of each kind; more than a batch can name


class Problem(NamedTuple):
    line: int
    reason: str


class Report(msgspec.Struct):
    """`existing` were there already, or twice in what came. `bad`: lines that could not be taken; `problems`: why, of
    the first of them. The key is that of what belongs to none that is here.
    """

    imported: int = 0
    existing: int = 0
    bad: int = 0
    key_id: str = ""
    key_name: str = ""
    problems: list[Problem] = msgspec.field(default_factory=list)

    def refuse(self, number: int, reason: str) -> None:
        self.bad += 1
        if len(self.problems) < _MOST_SHOWN:
            self.problems.append(Problem(number, reason[:_LONGEST_REASON]))


class _Known:
    """Whom and what there is here, of the last that were asked for. Who and what there is not, gives way to who
    imports.
    """

    def __init__(self, instead: dict[str, str | None]) -> None:
        self._instead = instead
        self._found: dict[str, OrderedDict[str, str | None]] = {kind: OrderedDict() for kind in instead}

    async def learn(self, connection: Connection, kind: str, ids: set[str]) -> None:
        known = self._found[kind]
        unknown = ids - known.keys()
        for name in ids - unknown:
            known.move_to_end(name)
        if unknown:
            there = await transfer.owners_there(connection, kind, unknown)
            known.update({name: name if name in there else self._instead[kind] for name in unknown})
        while len(known) > _MOST_KNOWN:
            known.popitem(last=False)

    def of(self, kind: str, identifier: str) -> str | None:
        return self._found[kind][identifier]


class Import:
    """Use as `begin`, then `take` for each block that comes, then `finish`.

    What belongs to a key that is not here becomes `key`'s: an identifier, or the name of a key of the operator or
    of the one who imports; by default the operator's first key's. A user who is not here becomes the one who imports; a
    project, none.
    """

    def __init__(self, database: Database, actor: Actor, *, key: str | None, keep_texts: bool) -> None:
        self.report = Report()
        self._database = database
        self._actor = actor
        self._key = key
        self._key_id = ""
        self._keep_texts = keep_texts
        self._without_texts: set[str] = set()
        self._records = Records()
        self._columns: Sequence[str] | None = None  # of CSV, as its heading has them
        self._batch: list[tuple[int, bytes]] = []
        self._bytes = 0

    async def begin(self) -> None:
        """Find the key, and note it in the audit log. Raises `BadRequest`."""
        async with self._database.transaction() as connection:
            found = await _heir(connection, self._key, self._actor)
            self._without_texts = await transfer.projects_without_texts(connection)
        self._key_id, self.report.key_id, self.report.key_name = found.id, found.id, found.name
        self._known = _Known({"key": self._key_id, "user": self._actor.user_id, "project": None})
        await self._note(outcome="begun")

    async def take(self, block: bytes) -> None:
        """Raises `BadRequest` if it is CSV, and has not the columns of an export."""
        for number, record in self._records.feed(block):
            await self._add(number, record)

    async def finish(self) -> Report:
        """Raises what `take` does."""
        for number, record in self._records.end():
            await self._add(number, record)
        await self._write()
        report = self.report
        await self._note(outcome="done", imported=report.imported, existing=report.existing, bad=report.bad)
        return report

    async def _note(self, **details: object) -> None:
        async def write() -> None:
            async with self._database.transaction() as connection:
                await note(connection, self._actor, "history.import", f"key:{self._key_id}", **details)

        await outlast_lock(write)

    async def _add(self, number: int, record: bytes | None) -> None:
        if record is None:
            self.report.refuse(number, f"it is longer than {LONGEST // 2**20} MiB")
            return
        if self._records.are_rows and self._columns is None:
            self._columns = sheets.heading(record)
            return
        if self._batch and self._bytes + len(record) > _BYTES:
            await self._write()
        self._batch.append((number, record))
        self._bytes += len(record)
        if len(self._batch) >= _ROWS or self._bytes > _BYTES:
            await self._write()

    async def _write(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        found = await asyncio.to_thread(self._decode, batch)
        new = await self._settled(found)
        imported = await outlast_lock(lambda: transfer.add(self._database, new)) if new else 0
        self.report.imported += imported
        self.report.existing += len(found) - imported

    def _decode(self, batch: Sequence[tuple[int, bytes]]) -> list[Arrival]:
        found = []
        for number, record in batch:
            try:
                found.append(self._arrival(record))
            except BadLine as error:
                self.report.refuse(number, str(error))
        return found

    def _arrival(self, record: bytes) -> Arrival:
        if self._columns is not None:
            return sheets.decode(record, self._columns)
        return _decoded(record, self._key_id, self._actor.user_id)

    async def _settled(self, found: Sequence[Arrival]) -> Sequence[Arrival]:
        """Those that are not there, as far as that can be told here, with owners who are."""
        if not found:
            return found
        async with self._database.transaction() as connection:
            alone = [_conversation(arrival) for arrival in found if arrival.alone]
            there = await transfer.conversations_there(connection, alone)
            await self._learn(connection, found)
        new: list[Arrival] = []
        for arrival in found:
            if arrival.alone:
                if _conversation(arrival) in there:
                    continue
                there.add(_conversation(arrival))
            new.append(self._owned(arrival))
        return new

    async def _learn(self, connection: Connection, found: Sequence[Arrival]) -> None:
        exchanges = [arrival.exchange for arrival in found]
        givers = {arrival.feedback["user_id"] for arrival in found if arrival.feedback is not None}
        await self._known.learn(connection, "key", {exchange.key_id for exchange in exchanges})
        await self._known.learn(connection, "user", {exchange.user_id for exchange in exchanges} | givers)
        projects = {exchange.project_id for exchange in exchanges if exchange.project_id is not None}
        await self._known.learn(connection, "project", projects)

    def _owned(self, arrival: Arrival) -> Arrival:
        known, exchange = self._known, arrival.exchange
        exchange.key_id = known.of("key", exchange.key_id) or self._key_id
        exchange.user_id = known.of("user", exchange.user_id) or self._actor.user_id
        if exchange.project_id is not None:
            exchange.project_id = known.of("project", exchange.project_id)
        wanted = self._keep_texts and exchange.project_id not in self._without_texts
        exchange.keep_texts = exchange.keep_texts and wanted
        if arrival.feedback is not None:
            arrival.feedback["user_id"] = known.of("user", arrival.feedback["user_id"])
        return arrival


async def _heir(connection: Connection, named: str | None, actor: Actor) -> Key:
    """Whose becomes what was another key's. Raises `BadRequest`.

    Anybody may call a key of theirs whatever they like, and sees what it has: theirs are taken by their ids alone.
    """
    if named is not None:
        return _the_one(await transfer.keys_named(connection, named, of=(OPERATOR_ID, actor.user_id)))
    found = await transfer.first_key(connection, OPERATOR_ID)
    if found is None:
        message = "key: name one, because the operator has none: 'ai-proxy keys create NAME' makes one."
        raise BadRequest(message, param="key")
    return found


async def key_id(connection: Connection, named: str) -> str:
    """That of any key, by identifier or name. Raises `BadRequest`."""
    return _the_one(await transfer.keys_named(connection, named)).id


def _the_one(keys: Sequence[Key]) -> Key:
    if len(keys) != 1:
        message = f"key: there is {'more than one key' if keys else 'no key'} of this name: say its id."
        raise BadRequest(message, param="key")
    return keys[0]


class _Probe(msgspec.Struct):
    """What tells one kind of line from the other."""

    id: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET


_probe = msgspec.json.Decoder(_Probe)


def _decoded(line: bytes, key_id: str, user_id: str) -> Arrival:
    try:
        found = _probe.decode(line)
    except RecursionError:
        raise BadLine("it is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(str(error)) from None
    if found.id is UNSET and found.messages is not UNSET:
        return chats.decode(line, key_id=key_id, user_id=user_id)
    return arrivals.decode(line)


def _conversation(arrival: Arrival) -> str:
    return arrival.exchange.conversation_id or ""
