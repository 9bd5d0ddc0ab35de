"""Bodies that are almost right: one place in a good one has something else, or is gone."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=4)


def distorted(*good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(good).flatmap(_distorted)


def _distorted(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    places = list(_places(good))
    return st.builds(_replaced, st.just(good), st.sampled_from(places), JSON, st.booleans())


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from _places(inner, (*path, key))


def _replaced(good: dict[str, Any], path: tuple[str | int, ...], value: Any, gone: bool) -> dict[str, Any]:
    body: Any = copy.deepcopy(good)
    at = body
    for key in path[:-1]:
        at = at[key]
    if gone:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return body
