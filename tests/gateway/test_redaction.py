"""What is taken out of texts before they are stored, what stays, and that no text takes long."""

import asyncio
import json
import time

import pytest

from ai_proxy.core.groups import BudgetSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.privacy import RedactionSettings
from ai_proxy.core.types import Exchange, KeptAnswer
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Completion
from ai_proxy.gateway.detectors import DETECTORS, PIECE
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.record import Record
from ai_proxy.gateway.redaction import Redaction

MEGABYTE = 1_000_000
PRIVATE_KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIE\n"
    "-----END RSA PRIVATE KEY-----"
)
FOUND = {
    "secrets": {
        "openai": "sk-proj-abcdefghij_0123456789",
        "github": "ghp_" + "a1B2" * 9,
        "github-fine": "github_pat_" + "a1B2" * 9,
        "gitlab": "glpat-abcdefghij0123456789",
        "amazon": "AKIAIOSFODNN7EXAMPLE",
        "google": "AIza" + "a1B2_" * 7,
        "slack": "xoxb-0123456789-abcdef",
        "stripe": "sk_live_abcdefghij0123456789",
        "webhook": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ours": "aip_" + "a1B2" * 9,
        "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0",
        "pem": PRIVATE_KEY,
        "pem-cut": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh",
    },
    "emails": {
        "plain": "ada@example.com",
        "tagged": "ada.love-lace+tag@mail.example.co.uk",
        "cyrillic": "\u0430\u0434\u0430@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444",
    },
    "phones": {
        "country": "+7 (495) 123-45-67",
        "together": "+442071838750",
        "russian": "8 (495) 123-45-67",
        "russian-together": "89161234567",
        "american": "(212) 555-0123",
        "american-dots": "212.555.0123",
        "american-one": "1-212-555-0123",
    },
    "cards": {
        "visa": "4111111111111111",
        "in-fours": "5555 5555 5555 4444",
        "dashes": "2200-0000-0000-0004",
        "amex": "3782 822463 10005",
    },
    "ibans": {
        "german": "DE89370400440532013000",
        "in-fours": "GB82 WEST 1234 5698 7654 32",
        "letters": "FR1420041010050500013M02606",
    },
}
LEFT = {
    "secrets": [
        "sk-short",
        "task-force-of-the-whole-company",
        "eyJhbGciOiJIUzI1NiJ9",
        "AKIAIOSFODNN7EXAMPLES",
        "risk-free",
    ],
    "emails": ["@somebody", "a @ b.com", "user@localhost", "5 @ 3.20"],
    "phones": [
        "2026-11-23 12:30:11",
        "192.168.100.123",
        "1764000000",
        "12345678901234567890",
        "v1.212.555",
        "3.14159265358979",
    ],
    "cards": ["4111111111111112", "1764000000000", "1234567890123456", "41111111111111111111111"],
    "ibans": ["DE89370400440532013001", "XX89370400440532013000", "AB12CDEF", "DE893704004405320130001"],
}


def redaction(*detect: str, **rules: str) -> Redaction:
    return Redaction.of(RedactionSettings(detect=detect, rules=rules))


def test_without_rules_there_is_nothing_to_do():
    assert Redaction.of(RedactionSettings()) is None


@pytest.mark.parametrize(("name", "example"), [(name, example) for name in FOUND for example in FOUND[name]])
def test_what_is_looked_for_is_taken_out_and_the_rest_stays(name, example):
    text = f"Before: {FOUND[name][example]}"
    after = "" if example == "pem-cut" else ", after."

    redacted = redaction(name).text(text + after)

    assert redacted == f"Before: [redacted:{name}]{after}"


@pytest.mark.parametrize("name", LEFT)
def test_what_only_looks_like_it_stays(name):
    texts = [f"Before {text} after." for text in LEFT[name]]

    assert list(map(redaction(name).text, texts)) == texts


@pytest.mark.parametrize("name", ["cards", "ibans"])
def test_what_stands_behind_something_similar_is_found(name):
    [real, *_] = FOUND[name].values()
    wrong = LEFT[name][0]

    assert redaction(name).text(f"12 {wrong} {real} {wrong}") == f"12 {wrong} [redacted:{name}] {wrong}"


def test_an_account_number_is_as_long_as_its_country_has_it():
    assert redaction("ibans").text("DE89 3704 0044 0532 0130 00 ABCD") == "[redacted:ibans] ABCD"


# Long texts are searched in pieces.


@pytest.mark.parametrize(("name", "example"), [(name, example) for name in FOUND for example in FOUND[name]])
def test_what_lies_across_the_border_of_two_pieces_is_found(name, example):
    found = FOUND[name][example]
    after = "" if example == "pem-cut" else ", after."

    for before in {0, 1, len(found) // 2, len(found) - 1, len(found)}:
        words = ("word " * PIECE)[: PIECE - before - 1] + " "
        assert redaction(name).text(words + found + after) == f"{words}[redacted:{name}]{after}"


@pytest.mark.parametrize("name", LEFT)
def test_what_only_looks_like_it_stays_there_too(name):
    for like in LEFT[name]:
        for before in range(0, len(like) + 1, 3):
            text = ("word " * PIECE)[: PIECE - before - 1] + f" {like} after."
            assert redaction(name).text(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-" + "a-" * PIECE,
        "ghp_" + "a" * PIECE,
        "whsec_" + "a+/=" * PIECE,
        "eyJ" + "a" * (PIECE - 3) + ".eyJ" + "b" * 3 * PIECE + "." + "c" * PIECE,
        "-----BEGIN PRIVATE KEY-----" + "a-b--c---d----e" * PIECE + "-----END PRIVATE KEY-----",
    ],
    ids=["dashes", "letters", "base64", "jwt", "pem"],
)
def test_a_secret_of_several_pieces_is_found_as_a_whole(secret):
    assert redaction("secrets").text(f"Before: {secret}, after.") == "Before: [redacted:secrets], after."


@pytest.mark.parametrize("text", ["eyJ" + "a" * PIECE + ".eyJ short.", "eyJ" + "a" * 2 * PIECE + ". eyJ"])
def test_what_only_begins_like_a_token_of_several_pieces_stays(text):
    assert redaction("secrets").text(text) == text


@pytest.mark.parametrize("before", range(4))
def test_a_string_of_several_pieces_is_one(before):
    text = "x" * (PIECE - before) + '\n"' * PIECE + " a@b.org \\"

    redacted = redaction("emails").body(json.dumps([text, "a@b.org"]).encode())

    assert json.loads(redacted) == [text.replace("a@b.org", "[redacted:emails]"), "[redacted:emails]"]


def test_rules_of_the_operators_are_found_in_any_language():
    redact = redaction(staff=r"EMP-\d{6}", name="(?i)\u0438\u0432\u0430\u043d\\pL*")

    redacted = redact.text(
        "EMP-123456: \u0418\u0432\u0430\u043d\u043e\u0432, \u043f\u043e\u0447\u0442\u0430 \U0001f600 EMP-12"
    )

    assert redacted == "[redacted:staff]: [redacted:name], \u043f\u043e\u0447\u0442\u0430 \U0001f600 EMP-12"


@pytest.mark.parametrize("rule", ["(", "a*", "(?=x)", r"(a)\1", "x" * 1001])
def test_a_rule_that_cannot_be_used_is_refused(rule):
    with pytest.raises(ValueError, match="staff: "):
        RedactionSettings(rules={"staff": rule})


@pytest.mark.parametrize("name", ["Staff", "a b", "", "x" * 41])
def test_a_rule_has_a_plain_name(name):
    with pytest.raises(ValueError, match="a name has"):
        RedactionSettings(rules={name: "x"})


def test_an_unknown_detector_is_refused():
    with pytest.raises(ValueError, match="'secrets'"):
        RedactionSettings(detect="passwords")


# Bodies.


def test_of_json_only_strings_are_changed():
    body = b'{"a@b.org": ["\\u0061@b.org", {"n": [12345678901234567890123, 1e400]}, "x\\n a@b.org \\"q\\""] , "e": ""}'

    redacted = redaction("emails").body(body)

    mark = b"[redacted:emails]"
    assert redacted == (
        b'{"%b": ["%b", {"n": [12345678901234567890123, 1e400]}, "x\\n %b \\"q\\""] , "e": ""}' % (mark, mark, mark)
    )


def test_a_body_without_anything_to_be_found_is_the_same():
    body = '{"text": "\\u043f \u043f \\/ \\ud800", "n": 1.0}'.encode()

    assert redaction("emails").body(body) is body


def test_half_characters_and_emoji_stay_what_they_are():
    body = b'{"x": "\\ud800 a@b.org", "y": "\\ud83d\\ude00 a@b.org"}'

    redacted = redaction("emails").body(body)

    assert json.loads(redacted) == {"x": "\ud800 [redacted:emails]", "y": "\U0001f600 [redacted:emails]"}


@pytest.mark.parametrize("body", [b"a@b.org", b"\xff a@b.org", b'"a@b.org', b'a@b.org {"x": "a@b.org"}\na@b.org"'])
def test_a_body_that_is_no_json_is_a_text(body):
    redacted = redaction("emails").body(body)

    assert redacted == body.replace(b"a@b.org", b"[redacted:emails]")


def test_json_within_a_string_is_looked_into():
    body = json.dumps({"arguments": json.dumps({"card": 4111111111111111, "to": "a@b.org"})}).encode()

    redacted = redaction("emails", "cards").body(body)

    assert json.loads(redacted) == {"arguments": '{"card": [redacted:cards], "to": "[redacted:emails]"}'}


# Exchanges.


def exchange(**fields) -> Exchange:
    given = {"id": "id", "key_id": "key", "question": "a@b.org", "model": "m", "conversation_id": None, "started": 0.0}
    return Exchange(created_at=0, **{**given, **fields})


def test_every_text_of_a_copy_is_redacted_and_the_exchange_stays():
    kept = KeptAnswer(key="k", digest="d", body=b'{"x": "a@b.org"}', headers={}, exchange_id="id")
    before = exchange(answer="a@b.org", request=b'["a@b.org"]', response=b'["a@b.org"]', kept=kept)

    after = redaction("emails")(before)

    mark = "[redacted:emails]"
    assert (after.question, after.answer) == (mark, mark)
    assert (after.request, after.response) == (b'["[redacted:emails]"]', b'["[redacted:emails]"]')
    assert after.kept.body == b'{"x": "[redacted:emails]"}'
    assert (before.question, before.answer, before.response, before.kept) == (
        "a@b.org",
        "a@b.org",
        b'["a@b.org"]',
        kept,
    )


def test_parts_of_a_broken_stream_go_with_what_they_would_make_up():
    parts = b'{"delta": "a@b"}\n{"delta": ".org"}'

    assert redaction("emails")(exchange(answer="a@b.org", response=parts)).response is None
    assert redaction("emails")(exchange(answer="pong", response=parts)).response == parts


CALL = parse("chat", b'{"model": "small", "messages": [{"role": "user", "content": "ping"}]}')


class Recorder:
    def __init__(self) -> None:
        self.rows: list[Exchange] = []

    def admit(self) -> None: ...

    def add(self, exchange: Exchange) -> asyncio.Event:
        self.rows.append(exchange)
        done = asyncio.Event()
        done.set()
        return done


def record_of(exchange: Exchange, recorder: Recorder, redact) -> Record:
    record = Record(exchange, CALL, recorder, Limiter(MemoryCounters(), BudgetSettings(), Metrics()), Metrics())
    record.redact = redact
    return record


@pytest.mark.anyio
@pytest.mark.parametrize("length", [10, 100_000])
async def test_what_is_recorded_is_redacted_and_what_is_answered_is_not(length):
    recorder = Recorder()
    call = exchange(question="x" * length + " a@b.org")

    async with record_of(call, recorder, redaction("emails")) as record:
        record.take_whole(Completion(body=b'["a@b.org"]', text="a@b.org", finish_reason="stop", usage=None))

    [row] = recorder.rows
    assert (row.question[length:], row.answer) == (" [redacted:emails]", "[redacted:emails]")
    assert (call.question[length:], call.answer) == (" a@b.org", "a@b.org")


@pytest.mark.anyio
async def test_who_leaves_while_a_long_text_is_looked_through_leaves_a_redacted_record():
    recorder = Recorder()
    looking = asyncio.Event()
    loop = asyncio.get_running_loop()
    redact = redaction("emails")

    def slowly(exchange: Exchange) -> Exchange:
        loop.call_soon_threadsafe(looking.set)
        time.sleep(0.1)
        return redact(exchange)

    async def call() -> None:
        async with record_of(exchange(question="a@b.org " * 10_000), recorder, slowly):
            pass

    task = asyncio.create_task(call())
    await looking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert "a@b.org" not in recorder.rows[0].question


@pytest.mark.anyio
async def test_texts_that_could_not_be_looked_through_are_not_stored():
    def broken(_: Exchange) -> Exchange:
        raise ZeroDivisionError

    recorder = Recorder()

    with pytest.raises(ZeroDivisionError):
        async with record_of(exchange(), recorder, broken):
            pass

    assert [row.keep_texts for row in recorder.rows] == [False]


# Callers choose the texts: none may hold up the others.

ADVERSARIAL = {
    "one-letter": "a",
    "words": "The quick brown fox jumps over 12 lazy dogs. ",
    "jwt-begins": "-eyJ",
    "jwt-parts": "eyJaaaaaaaaaaaaaa.",
    "sk": "sk-",
    "sk-short": "sk-aaaaaaaaaaaaaaa ",
    "pem-begins": "-----BEGIN PRIVATE KEY-----",
    "pem-never": "-----BEGIN AAAAAAAAA ",
    "dashes": "-",
    "at": "@",
    "emails-no-end": "a@",
    "domains": "a@a.",
    "plus": "+1",
    "plus-spaces": "+1 ()",
    "digits": "4",
    "digits-apart": "4 ",
    "fours": "4444 ",
    "cards-wrong": "4111111111111112 ",
    "phones-no-end": "888-888-",
    "brackets": "(212) ",
    "ibans-begin": "DE89 ",
    "ibans-wrong": "DE89370400440532013001 ",
    "quotes": '"',
    "backslashes": "\\",
    "escaped-quotes": '\\"',
    "emails": "me@example.com ",
}


def took(work, text) -> float:
    """Seconds of CPU: others share this machine."""
    began = time.thread_time()
    work(text)
    return time.thread_time() - began


@pytest.mark.parametrize("text", ADVERSARIAL)
@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_megabyte_takes_no_time_worth_speaking_of(name, text):
    part = ADVERSARIAL[text]

    assert took(redaction(name).text, (part * (MEGABYTE // len(part) + 1))[:MEGABYTE]) < 3


@pytest.mark.parametrize("part", ['"', '\\"', '"\\', "a"])
def test_so_do_bodies_that_are_no_json(part):
    body = (b'"' + part.encode() * MEGABYTE)[:MEGABYTE]

    assert took(redaction("secrets", "emails").body, body) < 3


@pytest.mark.parametrize("rule", ["(a+)+$", "(a|a)*b", "(.*)*x", "a.*a.*a.*b"])
def test_so_do_rules_that_other_engines_never_finish(rule):
    assert took(redaction(own=rule).text, "a" * MEGABYTE) < 3
