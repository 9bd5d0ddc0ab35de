"""What the index of words knows of an exchange besides its words: whose it is, and who answered."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from ai_proxy.storage.tables import Exchange

COLUMNS = {
    "key": Exchange.key_id,
    "user": Exchange.user_id,
    "project": Exchange.project_id,
    "model": Exchange.model,
    "provider": Exchange.provider,
    "status": Exchange.status,
    "conversation": Exchange.conversation_id,
}


def of(values: Sequence[str | None]) -> list[str]:
    """The facets of a row of the history, each one word. `values` are those of `COLUMNS`."""
    return [token(name, value) for name, value in zip(COLUMNS, values, strict=True) if value]


def alternatives(facets: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Words of which a row must have one of each list. `visible` holds names and values, as `user:ID`.

    Raises `KeyError` for a name that rows do not have.
    """
    return [_one_of(name, values) for name, values in facets.items()]


def _one_of(name: str, values: Iterable[str]) -> list[str]:
    if name == "visible":
        return sorted({token(*value.split(":", 1)) for value in values})
    return sorted({token(name, value) for value in values})


@lru_cache(maxsize=10_000)
def token(name: str, value: str) -> str:
    """A word that no text has by chance, and that is one word everywhere, whatever the value is."""
    if name not in COLUMNS:
        raise KeyError(name)
    return name + blake2b(value.encode(), digest_size=10).hexdigest()
