"""Which fault has which tests: `python -m tests.faults.catalogue` writes docs/faults.md.

A test tells by its name which faults it is about: test_c1_…, test_fault_s2_s3_…, test_c21_and_c23_….
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"

_NAME = re.compile(r"test_(?:fault_)?((?:[cupsx]\d+_(?:and_)?)+)")

_HEAD = """\
# Faults and their tests

What goes wrong around a gateway, and the tests that prove what becomes of it. `make test` runs all of them, `make soak`
the long forms of X3, P1, P2, S1 and X13: 200 kills on each store, twenty restarts and a minute without the database,
five minutes of everything at one time. This page is made from the tests' names: `python -m tests.faults.catalogue`.
"""

# By the letter: what is at fault, and what happens.
FAULTS = {
    "Clients": {
        "C1": "Headers that come byte by byte",
        "C2": "A connection on which nothing comes",
        "C3": "A body that comes byte by byte",
        "C4": "A stream that is not read",
        "C5": "A body that is declared too large",
        "C6": "A body without end",
        "C7": "A body that unpacks to gigabytes",
        "C8": "Malformed JSON",
        "C9": "Text that is not UTF-8, or with characters that databases do not like",
        "C10": "A hundred thousand nested brackets",
        "C11": "The same name twice in one object",
        "C12": "Numbers that JSON does not have, or that are huge",
        "C13": "Wrong types, unknown fields, another content type",
        "C14": "Malformed arguments of tool calls in a conversation",
        "C15": "A flood of headers",
        "C16": "What is not quite HTTP",
        "C17": "A second request hidden in a body",
        "C18": "A hundred requests at once on one connection",
        "C19": "A client that leaves before its question is complete",
        "C20": "A client that leaves before the first byte of its answer",
        "C21": "A client that leaves in the middle of a stream",
        "C22": "A client that closes its half of the connection",
        "C23": "A connection that is reset in the middle of a stream",
        "C24": "A request that is sent again under its idempotency key",
        "C25": "More connections than there is room for",
        "C26": "Requests to speak another protocol",
        "C27": "Unusual methods and paths, and clients that ask before they send",
        "C28": "A bomb of ranges",
    },
    "Providers": {
        "U1": "Refuses connections",
        "U2": "Lets connections hang",
        "U3": "Has a name that cannot be resolved, or only slowly",
        "U4": "Has a certificate that is not good, or a TLS that stalls",
        "U5": "Takes the request and says nothing",
        "U6": "Stalls before the first event",
        "U7": "Stalls in the middle of a stream",
        "U8": "Sends byte by byte",
        "U9": "Ends in the middle of a chunk",
        "U10": "Ends a stream without saying that it is complete",
        "U11": "Resets the connection in the middle",
        "U12": "Writes its events in every way that is allowed, and in some that are not",
        "U13": "Sends an event that is not JSON",
        "U14": "Answers with something else than an answer",
        "U15": "Answers 200 with an error",
        "U16": "Sends an error in the middle of a stream",
        "U17": "Says how long to wait",
        "U18": "Says so as a date, in the past, or in no way that makes sense",
        "U19": "Is busy and does not say for how long",
        "U20": "Has an account that is empty",
        "U21": "Fails again and again",
        "U22": "Is overloaded",
        "U23": "Refuses our key",
        "U24": "Does not have the model, or finds the conversation too long",
        "U25": "Redirects elsewhere",
        "U26": "Answers at enormous length",
        "U27": "Streams a line without end, or a million events",
        "U28": "Answers with a body that unpacks to gigabytes",
        "U29": "Sends headers that are not for clients",
        "U30": "Closes a connection just as it is used again",
        "U31": "Hangs, and holds all its connections",
        "U32": "Counts tokens wrongly, twice, or not at all",
        "U33": "Sends answers with parts missing or in disorder",
        "U34": "Sends what is HTTP but nobody expects",
        "U35": "Is part of a circle of fallbacks",
        "U36": "Has replicas of which half are dead",
        "U37": "Has another time than we have",
    },
    "The database": {
        "S1": "SQLite: another process holds the lock",
        "S2": "The file system is full before a call",
        "S3": "The file system is full after its answer came",
        "S4": "The file system becomes read-only",
        "S5": "The file is damaged",
        "S6": "There is no place for the file",
        "S7": "The disk fails to sync",
        "S8": "A reader keeps the log from being cut",
        "S9": "The schema is of a newer version, or a migration is killed in the middle",
        "S10": "Two processes share one file",
        "P1": "PostgreSQL is restarted",
        "P2": "It is down for a while",
        "P3": "It has too many clients",
        "P4": "Slow queries and locks take all connections",
        "P5": "It is read-only, or hands over to its standby",
        "P6": "A deadlock, or a transaction that cannot be serialized",
        "P7": "It says nothing any more",
        "P8": "The connection is cut between a commit and its acknowledgement",
    },
    "The process": {
        "X1": "Is asked to stop while calls run",
        "X2": "Is asked to stop twice",
        "X3": "Is killed at any moment",
        "X12": "Has a STDOUT that is closed, full or not read",
        "X13": "Has calls that end in every way, for minutes",
        "X14": "Is given settings that are wrong, while it runs",
        "X15": "Starts before its database",
    },
}

# Tests that are about more than a fault, and are not named after it.
_BY_OTHER_NAMES = {
    "C24": ("test_the_same_request_gets_the_same_answer_and_is_not_made_again", "test_answers_survive_sudden_death"),
    "X14": ("test_a_broken_file_is_told_and_changes_nothing", "test_after_a_broken_file_a_right_one_is_taken"),
}


def tests() -> dict[str, list[str]]:
    """By fault: the names of its tests, which exist."""
    found: dict[str, list[str]] = {fault: [] for faults in FAULTS.values() for fault in faults}
    names = sorted(_test_names())
    for name in names:
        if match := _NAME.match(name):
            for fault in re.findall(r"[cupsx]\d+", match[1]):
                found.setdefault(fault.upper(), []).append(name)
    for fault, others in _BY_OTHER_NAMES.items():
        found[fault] += [name for name in others if name in names]
    return found


def page() -> str:
    found = tests()
    parts = [_HEAD]
    for whose, faults in FAULTS.items():
        rows = [f"| {fault} | {what} | {_listed(found[fault])} |" for fault, what in faults.items()]
        parts.append("\n".join([f"## {whose}", "", "| | what happens | tests |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _listed(names: list[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def _test_names() -> Iterator[str]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


if __name__ == "__main__":
    PAGE.write_text(page())
