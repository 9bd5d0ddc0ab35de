"""Which exchanges are asked for, and how a page of them is found without looking at many others.

Each condition that an index knows is a way to go down from the newest. Of several, that way is taken whose
newest `WINDOW` entries reach farthest back; all others are looked at row by row, within this window.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    asc,
    desc,
    exists,
    func,
    literal_column,
    or_,
    select,
    union,
)
from sqlalchemy.orm import InstrumentedAttribute

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import Exchange, Feedback, Tag

WINDOW = 5_000  # rows that are looked at for one page, if not every row of the index is one that is asked for
_AT_ONCE = 1000  # identifiers in one query: databases take only so many
MOST_WAYS = 100  # that are gone at once: SQLite joins 500 queries at most


class Visible(msgspec.Struct, frozen=True):
    """Whose exchanges may be seen: those of a user, and those of projects."""

    user_id: str
    projects: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which exchanges; None is any. Costs are in nano-dollars, both ends included; `thumb` is 1 or -1.

    `since` (included) and `until` (not included) are identifiers, whose order is that in time. `visible` is None for
    who may see all.
    """

    key: str | None = None
    user: str | None = None
    project: str | None = None
    conversation: str | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    tag: str | None = None
    thumb: int | None = None
    min_cost: int | None = None
    max_cost: int | None = None
    since: str | None = None
    until: str | None = None
    visible: Visible | None = None


async def newest(
    connection: Connection, wanted: Wanted, *, before: str | None, limit: int, window: int = WINDOW
) -> tuple[list[str], str | None]:
    """Identifiers, newest first, and the `before` of the next page; None if there are no more.

    There may be fewer of them than `limit`, even none, when `window` rows were looked at.
    """
    upper = min(filter(None, (before, wanted.until)), default=None)
    conditions = list(_conditions(wanted))
    way, lowest = await _best_way(connection, conditions, (wanted.since, upper), window)
    rest = [other.test for other in conditions if other is not way or not way.exact]
    queries = [_going_down(source, rest, (lowest or wanted.since, upper), limit + 1) for source in way.sources]
    found = list(await connection.scalars(_newest(queries, limit + 1)))
    return (found[:limit], found[limit - 1]) if len(found) > limit else (found, lowest)


async def oldest(
    connection: Connection, wanted: Wanted, *, after: str | None, limit: int, window: int = WINDOW
) -> tuple[list[str], str | None]:
    """The same from the other end: oldest first, and the `after` of the next page.

    It goes by the condition that is likely to be the narrowest, because whoever wants all has time.
    """
    conditions = list(_conditions(wanted))
    way = next((condition for condition in reversed(conditions) if condition.sources), _ALL)
    rest = [other.test for other in conditions if other is not way or not way.exact]
    bounds, last = (after, wanted.since, wanted.until), max(0, window // len(way.sources) - 1)
    ends = [_going_up(source, (), bounds, 1).offset(last) for source in way.sources]
    end: str | None = await connection.scalar(_oldest(ends, 1)) if rest else None
    queries = [_going_up(source, rest, (*bounds[:2], wanted.until, end), limit + 1) for source in way.sources]
    found = list(await connection.scalars(_oldest(queries, limit + 1)))
    return (found[:limit], found[limit - 1]) if len(found) > limit else (found, end)


async def among(connection: Connection, wanted: Wanted, ids: Sequence[str]) -> list[str]:
    """Those of these exchanges that are asked for, in their order."""
    bounds = _within(Exchange.id, (wanted.since, wanted.until))
    query = select(Exchange.id).where(*bounds, *(condition.test for condition in _conditions(wanted)))
    kept: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        kept |= set(await connection.scalars(query.where(Exchange.id.in_(ids[start : start + _AT_ONCE]))))
    return [identifier for identifier in ids if identifier in kept]


class _Source(NamedTuple):
    """An index: a column of identifiers, in which those with certain `values` stand in their order."""

    id: SQLColumnExpression[str]
    values: tuple[ColumnElement[bool], ...] = ()


class _Condition(NamedTuple):
    """`test` is said in a way that no index is used for. `exact`: whatever the sources have fulfils it."""

    test: ColumnElement[bool]
    sources: tuple[_Source, ...] = ()
    exact: bool = True


_Range = tuple[str | None, str | None]  # the first one is in it, the second is not

_ALL = _Condition(literal_column("1") == 1, (_Source(Exchange.id),), exact=False)


def _conditions(wanted: Wanted) -> Iterable[_Condition]:
    if wanted.visible is not None:
        yield _seen(wanted.visible)
    for name, column in _INDEXED.items():
        if (value := getattr(wanted, name)) is not None:
            yield _Condition(_plain(column) == value, (_Source(Exchange.id, (column == value,)),))
    if wanted.status is not None:
        yield _of_status(wanted.status)
    yield from _of_remarks(wanted)
    yield from _of_figures(wanted)


_INDEXED: dict[str, InstrumentedAttribute[Any]] = {
    "key": Exchange.key_id,
    "user": Exchange.user_id,
    "project": Exchange.project_id,
    "conversation": Exchange.conversation_id,
    "model": Exchange.model,
}


def _of_remarks(wanted: Wanted) -> Iterable[_Condition]:
    if wanted.tag is not None:
        tagged = exists().where(Tag.exchange_id == Exchange.id, Tag.tag == wanted.tag).correlate(Exchange)
        yield _Condition(tagged, (_Source(Tag.exchange_id, (Tag.tag == wanted.tag,)),))
    if wanted.thumb is not None:
        given = exists().where(Feedback.exchange_id == Exchange.id, Feedback.thumb == wanted.thumb).correlate(Exchange)
        yield _Condition(given, (_Source(Feedback.exchange_id),), exact=False)


def _of_figures(wanted: Wanted) -> Iterable[_Condition]:
    """No index knows these."""
    if wanted.provider is not None:
        yield _Condition(Exchange.provider == wanted.provider)
    if wanted.min_cost is not None:
        yield _Condition(Exchange.cost >= wanted.min_cost)
    if wanted.max_cost is not None:
        yield _Condition(Exchange.cost <= wanted.max_cost)


def _plain(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    return column.concat("")


def _seen(visible: Visible) -> _Condition:
    test = or_(_plain(Exchange.user_id) == visible.user_id, _plain(Exchange.project_id).in_(visible.projects))
    if len(visible.projects) >= MOST_WAYS:
        return _Condition(test)
    owners = (Exchange.user_id == visible.user_id, *(Exchange.project_id == project for project in visible.projects))
    return _Condition(test, tuple(_Source(Exchange.id, (owner,)) for owner in owners))


def _of_status(status: str) -> _Condition:
    """The index has the rare ones only, and is used where this is said in its own words."""
    test = _plain(Exchange.status) == status
    if status == "completed":
        return _Condition(test)
    rare = Exchange.status != literal_column("'completed'")
    return _Condition(test, (_Source(Exchange.id, (Exchange.status == status, rare)),))


async def _best_way(
    connection: Connection, conditions: Sequence[_Condition], bounds: _Range, window: int
) -> tuple[_Condition, str | None]:
    """The condition to go by, and the oldest identifier that is to be looked at; None for all there are."""
    ways = [condition for condition in conditions if condition.sources] or [_ALL]
    if not conditions or (len(conditions) == 1 and ways[0].exact):
        return ways[0], None
    best, lowest = ways[0], ""
    for way in ways:
        reached = await _reach(connection, way.sources, bounds, window)
        if reached is None:
            return way, None
        if not lowest or reached < lowest:
            best, lowest = way, reached
    return best, lowest


async def _reach(connection: Connection, sources: Sequence[_Source], bounds: _Range, window: int) -> str | None:
    """How far back the newest `window` entries of all sources together reach; None: to the end."""
    last = max(0, window // len(sources) - 1)
    queries = [_going_down(source, (), bounds, 1).offset(last) for source in sources]
    ends = _newest(queries, len(queries)).subquery()
    reached: str | None = await connection.scalar(select(func.max(ends.c[0])))
    return reached


def _going_down(source: _Source, tests: Sequence[ColumnElement[bool]], bounds: _Range, limit: int) -> Select[str]:
    query: Select[str] = select(source.id.label("id")).where(*source.values, *_within(source.id, bounds), *tests)
    if tests and source.id is not Exchange.id:
        query = query.join(Exchange, Exchange.id == source.id)
    return query.order_by(source.id.desc()).limit(limit)


def _within(column: SQLColumnExpression[str], bounds: _Range) -> Iterable[ColumnElement[bool]]:
    first, end = bounds
    if first is not None:
        yield column >= first
    if end is not None:
        yield column < end


def _newest(queries: Sequence[Select[str]], limit: int) -> Select[str]:
    """What several queries find, newest first."""
    return _together(queries, limit, desc)


def _going_up(
    source: _Source, tests: Sequence[ColumnElement[bool]], bounds: Sequence[str | None], limit: int
) -> Select[str]:
    """`bounds`: after, since, until, and the last one that is looked at."""
    after, since, until, end = (*bounds, None)[:4]
    query: Select[str] = select(source.id.label("id")).where(
        *source.values, *_within(source.id, (since, until)), *tests
    )
    if after is not None:
        query = query.where(source.id > after)
    if end is not None:
        query = query.where(source.id <= end)
    if tests and source.id is not Exchange.id:
        query = query.join(Exchange, Exchange.id == source.id)
    return query.order_by(source.id).limit(limit)


def _oldest(queries: Sequence[Select[str]], limit: int) -> Select[str]:
    """What several queries find, oldest first."""
    return _together(queries, limit, asc)


def _together(
    queries: Sequence[Select[str]], limit: int, order: Callable[[ColumnElement[str]], ColumnElement[str]]
) -> Select[str]:
    if len(queries) == 1:
        return queries[0]
    every = union(*(select(query.subquery().c.id) for query in queries)).subquery()
    return select(every.c.id).order_by(order(every.c.id)).limit(limit)
