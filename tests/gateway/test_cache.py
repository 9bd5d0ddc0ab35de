"""Answers in memory: which calls are equal, what is kept, and for how long."""

import pytest

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.groups import CacheSettings
from ai_proxy.core.types import Reuse
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.cache import Cache, fingerprint, wishes

TARGET = object()
PONG = (Completion(b"pong", "pong", "stop", None),)
BODY = b'{"model": "small", "messages": [{"role": "user", "content": "ping"}], "temperature": 2}'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def cache(clock, **settings) -> Cache:
    return Cache(CacheSettings(**{"ttl": 60, **settings}), clock)


def answer(size: int) -> tuple[Completion]:
    return (Completion(b"x" * size, "", "stop", None),)


def find(cache, key=b"key", **reuse):
    reuse = Reuse(**reuse)
    return cache.find(key, reuse), reuse.outcome


def test_an_answer_is_given_again_until_it_is_too_old(clock):
    memory = cache(clock)
    memory.put(b"key", TARGET, PONG)

    clock.now += 59.9
    reuse = Reuse()
    entry = memory.find(b"key", reuse)
    clock.now += 0.2
    late = find(memory)

    assert (entry.target, entry.parts) == (TARGET, PONG)
    assert (reuse.outcome, round(reuse.age, 1)) == ("hit", 59.9)
    assert late == (None, "miss")
    assert (memory.hits, memory.misses, memory.size) == (1, 1, 0)


def test_without_a_ttl_nothing_is_kept_and_nobody_is_told_of_a_miss(clock):
    memory = cache(clock, ttl=0)

    memory.put(b"key", TARGET, PONG)

    assert not memory.on
    assert find(memory) == (None, "")
    assert (memory.size, memory.misses) == (0, 0)


def test_a_caller_may_take_no_answer_or_only_a_young_one(clock):
    memory = cache(clock)
    memory.put(b"key", TARGET, PONG)
    clock.now += 10

    assert find(memory, reads=False) == (None, "")
    assert find(memory, max_age=9.0) == (None, "miss")
    assert find(memory, max_age=11.0)[1] == "hit"


def test_the_answers_unused_for_longest_give_way(clock):
    memory = cache(clock, max_bytes=5000)
    for key in (b"first", b"second", b"third"):
        memory.put(key, TARGET, answer(800))

    find(memory, b"first")
    memory.put(b"fourth", TARGET, answer(800))

    assert [find(memory, key)[1] for key in (b"first", b"second", b"third", b"fourth")] == ["hit", "miss", "hit", "hit"]
    assert memory.evicted == 1
    assert memory.size <= 5000


def test_an_answer_larger_than_the_whole_memory_displaces_nothing(clock):
    memory = cache(clock, max_bytes=5000)
    memory.put(b"small", TARGET, answer(100))

    memory.put(b"large", TARGET, answer(5000))

    assert [find(memory, key)[1] for key in (b"small", b"large")] == ["hit", "miss"]
    assert memory.evicted == 1


def test_the_chunks_of_a_stream_count_with_all_that_they_hold(clock):
    memory = cache(clock)

    memory.put(b"key", TARGET, [Chunk(b"x" * 1000, "y" * 1000)] * 10)

    assert 20_000 < memory.size < 25_000


def test_an_answer_put_again_counts_once(clock):
    memory = cache(clock)
    memory.put(b"key", TARGET, answer(100))
    size = memory.size

    memory.put(b"key", TARGET, answer(100))

    assert memory.size == size


def test_after_a_change_of_routes_nothing_is_found_not_even_what_was_on_its_way(clock):
    memory = cache(clock)
    call = parse("chat", BODY)
    before = memory.key("alice", call)
    memory.put(before, TARGET, PONG)

    memory.clear()
    memory.put(before, TARGET, PONG)

    assert find(memory, memory.key("alice", call)) == (None, "miss")


@pytest.mark.parametrize(
    "same",
    [BODY, b'{"temperature":2,"messages":[{"content":"ping","role":"user"}],"model":"small"}'],
    ids=["as it was", "in another order"],
)
def test_requests_are_equal_when_their_json_is(clock, same):
    memory = cache(clock)

    assert memory.key("alice", parse("chat", BODY)) == memory.key("alice", parse("chat", same))


@pytest.mark.parametrize(
    ("key_id", "dialect", "body", "headers"),
    [
        ("bob", "chat", BODY, {}),
        ("alice", "messages", BODY, {}),
        ("alice", "chat", BODY.replace(b"small", b"large"), {}),
        ("alice", "chat", BODY.replace(b'"temperature": 2', b'"temperature": 1'), {}),
        ("alice", "chat", BODY.replace(b'"temperature": 2', b'"temperature": 2, "stream": true'), {}),
        ("alice", "chat", BODY, {"openai-beta": "x"}),
    ],
    ids=["key", "format", "model", "parameter", "stream", "header"],
)
def test_requests_differ_by(clock, key_id, dialect, body, headers):
    memory = cache(clock)

    other = memory.key(key_id, parse(dialect, body, headers))

    assert other != memory.key("alice", parse("chat", BODY))


@pytest.mark.parametrize(
    ("header", "reads", "stores", "max_age"),
    [
        ("", True, True, None),
        ("no-cache", False, True, None),
        ("no-store", False, False, None),
        ("No-Cache, NO-STORE", False, False, None),
        ("max-age=60", True, True, 60.0),
        ('max-age="60", stale-while-revalidate=5', True, True, 60.0),
        ("max-age=0", False, True, 0.0),
        ("max-age=soon", False, True, 0.0),
        ("only-if-cached", True, True, None),
    ],
)
def test_what_cache_control_allows(header, reads, stores, max_age):
    found = wishes(header)

    assert (found.reads, found.stores, found.max_age) == (reads, stores, max_age)


def test_a_body_that_could_just_be_read_and_cannot_be_written_is_the_callers_fault():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(BadRequest):
        fingerprint(nested)
    while nested:  # freed level by level, or the interpreter would overflow
        nested = nested.pop()
