"""What lies on the disk of a service that encrypts, redacts, or keeps no texts, and what its callers see of it."""

import base64
import json
import sqlite3
from contextlib import closing
from uuid import uuid4

import pytest

from tests.service import Service
from tests.upstream import Upstream, completion, words

CANARY = "canary-question-7f3a9c"
ANSWER = "canary-answer-5b1e8d"
EMAIL = "ada@example.com"
OLD, NEW = (base64.urlsafe_b64encode(letter * 32).decode() for letter in (b"o", b"n"))


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.handler = completion(ANSWER)
        yield upstream


@pytest.fixture
def serve(start, upstream):
    """Starts a server that asks the scripted provider."""

    def serve(directory=None, **settings) -> Service:
        provider = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url, "AI_PROXY_DEFAULT_MODEL": "small"}
        return start(directory, AI_PROXY_LOG_LEVEL="debug", **provider, **settings)

    return serve


@pytest.fixture
def encrypting(serve):
    return serve(AI_PROXY_ENCRYPTION__KEYS=NEW)


def chat(question: str, **fields) -> dict:
    return {"model": "small", "messages": [{"role": "user", "content": question}], **fields}


def where(service: Service, *texts: str) -> list[str]:
    """The files that have one of these texts in them."""
    files = [path for path in service.directory.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text.encode() in path.read_bytes() for text in texts)]


def execute(service: Service, statement: str, *values) -> list:
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def call_in_every_way(service: Service) -> None:
    once = {"idempotency-key": "once"}
    service.client.post("/api/ask", json={"question": CANARY}, headers=once).raise_for_status()
    service.client.post("/v1/chat/completions", json=chat(CANARY)).raise_for_status()
    service.client.post("/v1/responses", json={"model": "small", "input": CANARY}).raise_for_status()


# Encryption.


def test_no_file_has_a_text_in_clear_and_the_history_shows_all(encrypting):
    call_in_every_way(encrypting)

    items = encrypting.history()
    assert [(item["question"], item["answer"], item["texts"]) for item in items] == [(CANARY, ANSWER, "encrypted")] * 3
    assert where(encrypting, CANARY, ANSWER) == []
    encrypting.stop()
    assert where(encrypting, CANARY, ANSWER) == []


def test_streams_are_encrypted(encrypting, upstream):
    upstream.handler = words(*ANSWER)
    encrypting.client.post("/v1/chat/completions", json=chat(CANARY, stream=True)).raise_for_status()
    encrypting.client.post("/api/streaming", json={"question": CANARY})

    [item, *_] = encrypting.history()

    assert (item["answer"], item["texts"]) == (ANSWER, "encrypted")
    assert where(encrypting, CANARY, ANSWER) == []


def test_bodies_titles_and_comments_are_readable_for_those_who_may(encrypting):
    conversation = str(uuid4())
    encrypting.ask(CANARY, conversation_id=conversation).raise_for_status()
    encrypting.client.post("/v1/chat/completions", json=chat(CANARY)).raise_for_status()
    [called, asked] = encrypting.history()

    path = f"/api/conversations/{conversation}"
    assert encrypting.client.get(path).json()["title"] == CANARY
    title, comment = "canary-title-1d2f", "canary-comment-9e8d"
    encrypting.client.patch(path, json={"title": title}).raise_for_status()
    encrypting.client.put(f"/api/history/{asked['id']}/feedback", json={"thumb": "up", "comment": comment})

    assert encrypting.client.get(path).json()["title"] == title
    assert encrypting.client.get(f"/api/history/{asked['id']}").json()["feedback"]["comment"] == comment
    assert CANARY in json.dumps(encrypting.client.get(f"/api/history/{called['id']}").json()["request"])
    assert where(encrypting, CANARY, ANSWER, title, comment) == []


def test_a_conversation_goes_on(encrypting, upstream):
    conversation = str(uuid4())
    encrypting.ask(CANARY, conversation_id=conversation).raise_for_status()

    encrypting.ask("And?", conversation_id=conversation).raise_for_status()

    sent = [message["content"] for message in upstream.connections[-1].json["messages"]]
    assert sent == [CANARY, ANSWER, "And?"]


def test_a_response_can_be_fetched_and_gone_on_from(encrypting, upstream):
    first = encrypting.client.post("/v1/responses", json={"model": "small", "input": CANARY}).json()

    again = encrypting.client.get(f"/v1/responses/{first['id']}")
    body = {"model": "small", "input": "And?", "previous_response_id": first["id"]}
    encrypting.client.post("/v1/responses", json=body).raise_for_status()

    assert again.json() == first
    assert CANARY in json.dumps(upstream.connections[-1].json)


def test_a_retry_gets_the_answer_that_was_kept(encrypting, upstream):
    once = {"idempotency-key": "once"}
    first = encrypting.client.post("/v1/chat/completions", json=chat(CANARY), headers=once)
    upstream.handler = completion("another")

    again = encrypting.client.post("/v1/chat/completions", json=chat(CANARY), headers=once)

    assert (again.headers["idempotent-replayed"], again.content) == ("true", first.content)


def test_after_a_rotation_all_can_be_read_and_without_a_key_nothing_but_figures(serve):
    service = serve(AI_PROXY_ENCRYPTION__KEYS=OLD)
    service.ask("first").raise_for_status()
    service.stop()
    service = serve(service.directory, AI_PROXY_ENCRYPTION__KEYS=f"{NEW},{OLD}")
    service.ask("second").raise_for_status()
    assert [item["question"] for item in service.history()] == ["second", "first"]
    service.stop()

    with_one = serve(service.directory, AI_PROXY_ENCRYPTION__KEYS=NEW)
    assert [(item["question"], item["texts"]) for item in with_one.history()] == [
        ("second", "encrypted"),
        ("", "encrypted"),
    ]
    with_one.stop()

    with_none = serve(service.directory)
    with_none.ask("third").raise_for_status()
    items = with_none.history()
    assert [(item["question"], item["texts"]) for item in items] == [("third", "plain"), *[("", "encrypted")] * 2]
    assert with_none.client.get(f"/api/history/{items[-1]['id']}").status_code == 200
    assert any(line["message"].startswith("encryption: no key is set") for line in with_none.log())


def test_what_waits_for_the_database_is_encrypted_too(serve):
    service = serve(AI_PROXY_ENCRYPTION__KEYS=NEW, AI_PROXY_RECORDER__WAIT=0.2)
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", isolation_level=None)) as connection:
        connection.execute("begin immediate")

        service.ask(CANARY).raise_for_status()

        spooled = [path for path in (service.directory / "data" / "spool").glob("*.spool") if path.stat().st_size > 100]
        assert spooled
        assert where(service, CANARY, ANSWER) == []
        connection.execute("rollback")
    assert service.eventually(service.history, seconds=15)[0]["question"] == CANARY


def test_the_command_line_reads_what_the_service_wrote_and_makes_keys(encrypting):
    made = [encrypting.run("db", "new-encryption-key").stdout.strip() for _ in range(2)]

    assert len(set(made)) == 2
    assert all(len(base64.urlsafe_b64decode(key)) == 32 for key in made)


def test_nobody_is_shown_a_key(encrypting):
    told = encrypting.run("config", "show")

    assert "encryption.keys" in told.stdout
    assert NEW[4:-4] not in told.stdout + (encrypting.directory / "stdout").read_text() + encrypting.stderr()


def test_a_wrong_key_stops_the_start_with_one_line(encrypting):
    encrypting.settings["AI_PROXY_ENCRYPTION__KEYS"] = "not-a-key"

    done = encrypting.run("config", "check")

    assert done.returncode == 1
    [line] = (done.stdout + done.stderr).splitlines()
    assert "AI_PROXY_ENCRYPTION__KEYS: must be keys" in line
    assert "not-a-key" not in line


# Redaction.


@pytest.fixture
def redacting(serve):
    return serve(AI_PROXY_REDACTION__DETECT="emails,secrets", AI_PROXY_REDACTION__RULES__STAFF=r"EMP-\d{6}")


ASKED = f"Write to {EMAIL}, EMP-123456."
STORED = "Write to [redacted:emails], [redacted:staff]."


def test_provider_and_client_get_everything_and_the_disk_does_not(redacting, upstream):
    upstream.handler = completion(ASKED)

    asked = redacting.ask(ASKED)
    called = redacting.client.post("/v1/chat/completions", json=chat(ASKED))

    assert asked.json()["answer"] == ASKED
    assert called.json()["choices"][0]["message"]["content"] == ASKED
    assert upstream.connections[-1].json["messages"][0]["content"] == ASKED
    assert [(item["question"], item["answer"]) for item in redacting.history()] == [(STORED, STORED)] * 2
    details = redacting.client.get(f"/api/history/{redacting.history()[0]['id']}").json()
    assert details["request"]["messages"][0]["content"] == STORED
    assert details["response"]["choices"][0]["message"]["content"] == STORED
    assert where(redacting, EMAIL, "EMP-123456") == []


def test_streams_are_redacted_when_they_are_stored(redacting, upstream):
    upstream.handler = words("Write to ", "ada@exa", "mple.com, EMP-12", "3456.")

    told = redacting.client.post("/v1/chat/completions", json=chat(ASKED, stream=True)).text
    asked = redacting.client.post("/api/streaming", json={"question": ASKED}).text

    assert "ada@exa" in told
    assert "ada@exa" in asked
    assert {item["answer"] for item in redacting.history()} == {STORED}
    assert where(redacting, EMAIL, "ada@exa", "EMP-12") == []


def test_a_retry_gets_what_was_stored(redacting, upstream):
    upstream.handler = completion(ASKED)
    once = {"idempotency-key": "once"}
    first = redacting.client.post("/v1/chat/completions", json=chat(ASKED), headers=once)

    again = redacting.client.post("/v1/chat/completions", json=chat(ASKED), headers=once)

    assert first.json()["choices"][0]["message"]["content"] == ASKED
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["choices"][0]["message"]["content"] == STORED


def test_rules_change_at_a_reload(serve):
    service = serve()
    service.ask(EMAIL).raise_for_status()

    service.configure(redaction={"detect": ["emails"]})
    service.ask(EMAIL).raise_for_status()

    assert [item["question"] for item in service.history()] == ["[redacted:emails]", EMAIL]


def test_a_long_text_is_redacted(redacting):
    redacting.ask("x " * 40_000 + EMAIL).raise_for_status()

    assert redacting.history()[0]["question"].endswith("x [redacted:emails]")


# Texts that are not kept.


def test_a_project_without_texts_leaves_figures_alone(serve):
    service = serve(AI_PROXY_RECORDER__WAIT=5)
    service.ask("before").raise_for_status()
    identifier = str(uuid4())
    execute(service, "insert into projects (id, name, created_at, keep_texts) values (?, 'quiet', 1, 0)", identifier)
    execute(service, "update api_keys set project_id = ?", identifier)

    def answered_without_texts() -> bool:
        service.client.post("/v1/chat/completions", json=chat("ping")).raise_for_status()
        return service.history()[0]["texts"] == "none"

    service.eventually(answered_without_texts, seconds=20, pause=0.5)
    call_in_every_way(service)

    items = service.history(limit=3)
    assert [(item["question"], item["answer"], item["texts"]) for item in items] == [("", "", "none")] * 3
    assert all(item["usage"]["output_tokens"] for item in items)
    assert where(service, CANARY) == []
    once = service.client.post("/api/ask", json={"question": CANARY}, headers={"idempotency-key": "once"})
    assert "idempotent-replayed" not in once.headers
