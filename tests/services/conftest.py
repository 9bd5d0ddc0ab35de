"""A database of either kind, with its tables and one key."""

import pytest

from ai_proxy.storage import keys, schema


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="key", digest="d", hint="h", created_at=1)
        yield database
