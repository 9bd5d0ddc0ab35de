"""Identifiers: what RFC 9562 asks of version 7, and that they sort."""

import time
import uuid
from itertools import pairwise

from ai_proxy.core.ids import uuid7


def test_has_the_version_and_the_variant_of_a_uuid7():
    found = [uuid.UUID(uuid7()) for _ in range(1000)]

    assert {(identifier.version, identifier.variant) for identifier in found} == {(7, uuid.RFC_4122)}


def test_is_in_the_usual_text_form():
    identifier = uuid7()

    assert identifier == str(uuid.UUID(identifier))


def test_begins_with_the_time_in_milliseconds():
    earliest = time.time_ns() // 1_000_000
    identifier = uuid7()
    latest = time.time_ns() // 1_000_000 + 1

    assert earliest <= uuid.UUID(identifier).int >> 80 <= latest


def test_each_one_sorts_after_those_before_it():
    found = [uuid7() for _ in range(100_000)]

    assert all(earlier < later for earlier, later in pairwise(found))


def test_ends_in_bits_that_differ_from_id_to_id():
    tails = {uuid.UUID(uuid7()).int & (2**42 - 1) for _ in range(10_000)}

    assert len(tails) > 9_990
