"""GET /api/history/export and POST /api/history/import: what goes from one service to another."""

import csv
import json
import socket
import time
from collections.abc import Iterator

import pytest

from ai_proxy.core.ids import uuid7
from tests.service import KEY, Service, http_request, read_all

LINES = {"content-type": "application/jsonl"}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Rome?"}]
TOOLS = [{"type": "function", "function": {"name": "map", "parameters": {"type": "object"}}}]
MANAGER = "a-key-that-may-manage-0123456789"


@pytest.fixture
def service(start) -> Service:
    return start()


def fill(service: Service) -> None:
    """Some of all there is: questions, calls, failures, remarks, conversations and a fork."""
    client = service.client
    talk = uuid7()
    for question in ("first", "second"):
        last = service.ask(question, conversation_id=talk).json()["id"]
    client.patch(f"/api/conversations/{talk}", json={"title": "Talk ✓"}).raise_for_status()
    fork = client.post(f"/api/history/{last}/fork").raise_for_status().json()["id"]
    service.ask("of the fork", conversation_id=fork, system="Be brief.")
    client.put(
        f"/api/history/{last}/feedback", json={"thumb": "up", "score": 4.5, "comment": "fine"}
    ).raise_for_status()
    client.put(f"/api/history/{last}/tags", json={"tags": ["b", "a"]}).raise_for_status()
    call = {"model": "mock", "messages": MESSAGES, "tools": TOOLS}
    client.post(
        "/v1/chat/completions", content=json.dumps(call, indent=2), headers={"content-type": "application/json"}
    )
    client.post("/v1/responses", json={"model": "mock", "input": "What is it?", "instructions": "Be kind."})
    client.post("/v1/embeddings", json={"model": "mock", "input": "one two"})
    client.post("/v1/messages", json={"model": "mock", "max_tokens": 9, "system": "Sing.", "messages": MESSAGES[1:]})


def exported(client, **query) -> str:
    return client.get("/api/history/export", params=query).raise_for_status().text


def imported(client, content, **query) -> dict:
    answer = client.post("/api/history/import", content=content, headers=LINES, params=query)
    return answer.raise_for_status().json()


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.split("\n") if line]


def _first_key(service: Service) -> str:
    return json.loads(service.run("keys", "list", "--json").stdout)[0]["id"]


def test_what_is_exported_and_imported_is_exported_again_as_it_was(pair, managing):
    first, second = pair
    fill(first)
    before = exported(first.client)
    report = imported(managing(second), before)

    after = exported(second.client)

    of = {"key_id": _first_key(second), "key_name": "from AI_PROXY_API_KEY"}
    assert report == {"imported": 7, "existing": 0, "bad": 0, **of, "problems": []}
    assert after.replace(_first_key(second), _first_key(first)) == before
    assert [line["created_at"] for line in lines(before)] == sorted(line["created_at"] for line in lines(before))


def test_a_second_import_adds_nothing_and_counts_nothing(pair, managing):
    first, second = pair
    fill(first)
    before = exported(first.client)
    boss = managing(second)
    imported(boss, before)
    usage = boss.get("/api/usage").json()

    report = imported(boss, before)

    assert (report["imported"], report["existing"]) == (0, 7)
    assert boss.get("/api/usage").json() == usage
    assert usage["total"]["calls"] == 7
    (talk,) = [talk for talk in second.client.get("/api/conversations").json()["items"] if talk["title"] == "Talk ✓"]
    assert talk["exchanges"] == 2


def test_texts_and_bodies_come_as_they_are_stored(service):
    fill(service)

    chat = next(line for line in lines(exported(service.client)) if line["dialect"] == "chat")

    assert chat["request"]["messages"] == MESSAGES
    assert chat["response"]["choices"][0]["message"]["content"] == chat["answer"]
    assert chat["texts"] == "kept"


def test_the_chat_format_has_what_was_asked_with_the_answer_and_leaves_out_what_is_no_chat(service):
    fill(service)

    found = lines(exported(service.client, format="chat"))

    assert [[message["role"] for message in line["messages"]] for line in found] == [
        ["user", "assistant"],
        ["user", "assistant"],
        ["system", "user", "assistant"],
        ["system", "user", "assistant"],
        ["system", "user", "assistant"],
        ["system", "user", "assistant"],
    ]
    assert found[3]["messages"][:2] == MESSAGES
    assert found[3]["tools"] == TOOLS
    assert found[4]["messages"][0]["content"] == "Be kind."


def test_lines_of_the_chat_format_are_exported_as_they_came_and_are_taken_once(service, managing):
    boss = managing(service)
    call = {"id": "c", "type": "function", "function": {"name": "map", "arguments": "{}"}}
    given = [
        {"messages": [*MESSAGES, {"role": "assistant", "content": "In Italy."}]},
        {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [call]}], "tools": TOOLS},
    ]
    content = "".join(json.dumps(line) + "\n" for line in given) * 2

    first, second = imported(boss, content), imported(boss, content)

    assert (first["imported"], first["existing"], second["imported"], second["existing"]) == (2, 2, 0, 4)
    assert lines(exported(service.client, format="chat")) == given
    (newest, oldest) = service.history()
    assert (oldest["question"], oldest["answer"], oldest["model"]) == ("Where is Rome?", "In Italy.", "imported")
    assert {newest["cost_usd"], oldest["cost_usd"]} == {"0.00"}


def test_a_chat_that_says_when_it_was_has_its_place_in_time(service, managing):
    line = {"messages": [*MESSAGES, {"role": "assistant", "content": "Yes."}], "created_at": "2026-01-02T03:04:05Z"}

    imported(managing(service), json.dumps(line))

    (found,) = service.history(to="2026-01-02")
    assert found["created_at"] == "2026-01-02T03:04:05Z"


def test_no_cell_is_a_formula(service):
    service.ask('=HYPERLINK("http://example.org")')

    text = exported(service.client, format="csv")

    (row,) = csv.DictReader(text.splitlines())
    assert row["question"].startswith("'=HYPERLINK")
    assert row["created_at"].endswith("Z")


def test_filters_are_those_of_the_history(service):
    fill(service)

    def questions(**query) -> list[str]:
        return [line["question"] for line in lines(exported(service.client, **query))]

    assert questions(tag="a") == ["second"]
    assert questions(thumb="up") == ["second"]
    assert questions(to="2020-01-01") == []
    assert service.client.get("/api/history/export", params={"format": "xml"}).status_code == 400
    assert service.client.get("/api/history/export", params={"limit": 1}).status_code == 400
    refused = service.client.get("/api/history/export", params={"q": "!?"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "q")
    assert service.eventually(lambda: questions(q="fork") == ["of the fork"])


def test_a_key_exports_what_was_asked_with_it_alone(service):
    fill(service)

    with service.client_with(service.new_key("other")) as other:
        assert exported(other) == ""


def test_exports_and_imports_are_in_the_audit_log(service, managing):
    boss = managing(service)
    exported(boss, status="failed")
    imported(boss, "{nonsense\n")

    found = boss.get("/api/audit").json()["items"]

    done, begun, export = found[:3]
    assert (export["action"], export["details"]["filters"]["status"]) == ("history.export", "failed")
    assert (begun["details"]["outcome"], done["details"]["outcome"], done["details"]["bad"]) == ("begun", "done", 1)


def test_a_bad_line_is_told_with_its_number_and_keeps_out_no_other(service, managing):
    good = lambda number: json.dumps(exchange(number))  # noqa: E731
    bad = ["{", "[]", '{"id": 1}', json.dumps({**exchange(1), "extra": 1}), '{"messages": []}', '"\\ud800"']
    unpriced = json.dumps({**exchange(2), "cost_usd": "dear"})

    report = imported(managing(service), "\n".join([good(3), "", *bad, unpriced, good(4)]))

    assert (report["imported"], report["bad"]) == (2, 7)
    assert [problem["line"] for problem in report["problems"]] == [3, 4, 5, 6, 7, 8, 9]
    assert report["problems"][-1]["reason"].startswith("cost_usd: must be an amount")


def test_of_many_bad_lines_the_first_twenty_are_shown(service, managing):
    report = imported(managing(service), "{x\n" * 50)

    assert (report["bad"], len(report["problems"])) == (50, 20)


def exchange(number: int, **fields) -> dict:
    """A line of an export."""
    place = {"id": f"01900000-0000-7000-8000-{number:012}", "created_at": "2024-06-10T00:00:00Z"}
    return {**place, "key_id": "elsewhere", "user_id": "elsewhere", "model": "m", "question": "q", **fields}


def test_what_belonged_to_nobody_here_belongs_to_who_imports(service, managing):
    line = exchange(1, project_id="elsewhere", conversation={"id": uuid7()})
    fallback = json.loads(service.run("keys", "list", "--json").stdout)[0]

    imported(managing(service), json.dumps(line))

    (found,) = service.history(to="2024-12-31")
    assert (found["key_id"], found["user_id"], found["project_id"]) == (fallback["id"], fallback["user_id"], None)


def test_a_key_can_be_named_for_it(service, managing):
    service.new_key("archive")
    boss = managing(service)

    report = imported(boss, json.dumps(exchange(1)), key="archive")

    assert report["key_name"] == "archive"
    assert service.history() == []
    refused = boss.post("/api/history/import", content=b"", headers=LINES, params={"key": "nobody"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "key")


def test_no_line_shows_what_another_key_asked_as_a_title(service, managing):
    service.ask("a secret")
    with service.client_with(service.new_key("other")) as other:
        foreign = service.history()[0]["id"]
        forged = exchange(1, id=uuid7(), conversation={"id": uuid7(), "forked_from": foreign})

        imported(managing(service), json.dumps(forged), key="other")

        (talk,) = other.get("/api/conversations").json()["items"]
    assert (talk["forked_from"], talk["title"]) == (foreign, None)


def test_a_line_that_is_too_long_is_left_out_and_not_kept(service, managing):
    def content() -> Iterator[bytes]:
        yield json.dumps(exchange(1)).encode() + b'\n{"question": "'
        for _ in range(66):
            yield b"x" * 2**20
        yield b'"}\n' + json.dumps(exchange(2)).encode()

    report = imported(managing(service), content())

    assert (report["imported"], report["bad"]) == (2, 1)
    assert report["problems"] == [{"line": 2, "reason": "it is longer than 64 MiB"}]


def test_a_body_may_be_larger_than_others_if_it_comes_from_who_may_import(start, managing):
    service = start(AI_PROXY_SERVER__MAX_BODY_BYTES=300_000)
    content = "\n".join(json.dumps(exchange(number, answer="a" * 5000)) for number in range(400))

    report = imported(managing(service), content)
    refused = service.client.post("/api/history/import", content=content, headers=LINES)

    assert report["imported"] == 400
    assert refused.status_code in {403, 413}


def test_only_administrators_import_and_only_lines(service, managing):
    boss = managing(service)

    assert service.client.post("/api/history/import", content=b"{}", headers=LINES).status_code == 403
    assert boss.post("/api/history/import", json={}).status_code == 415


def test_of_a_stream_that_is_cut_what_came_whole_may_stay_and_a_second_try_completes_it(service, managing):
    boss = managing(service)
    content = "\n".join(json.dumps(exchange(number)) for number in range(1200)).encode()
    head = http_request(content, path="/api/history/import").replace(b"application/json", b"application/jsonl")
    key = boss.headers["authorization"].encode()
    with service.raw(head.replace(b"Bearer " + KEY.encode(), key)[: -len(content) // 3]):
        time.sleep(0.3)

    line = service.eventually(lambda: service.request_log("/api/history/import"))[0]
    report = imported(boss, content)

    assert (line["status"], line["error"]) == (499, "client_gone")
    assert (report["imported"] + report["existing"], report["bad"]) == (1200, 0)
    assert boss.get("/api/usage", params={"from": "2024-06-10", "to": "2024-06-10"}).json()["total"]["calls"] == 1200


def test_a_sender_that_stops_is_told_so(start, managing):
    service = start(AI_PROXY_SERVER__BODY_TIMEOUT=0.3)
    key = managing(service).headers["authorization"].encode()
    head = http_request(b"x" * 100, path="/api/history/import").replace(b"application/json", b"application/jsonl")

    with service.raw(head.replace(b"Bearer " + KEY.encode(), key)[:-50]) as connection:
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_who_leaves_ends_the_export(service, managing):
    boss = managing(service)
    for start in range(0, 4000, 500):
        imported(boss, "\n".join(json.dumps(exchange(start + n, answer="a" * 10_000)) for n in range(500)))
    key = boss.headers["authorization"]
    request = f"GET /api/history/export HTTP/1.1\r\nhost: test\r\nauthorization: {key}\r\n\r\n".encode()

    with service.raw(request) as connection:
        connection.recv(1000)
        connection.shutdown(socket.SHUT_RDWR)

    line = service.eventually(lambda: service.request_log("/api/history/export"))[0]
    assert (line["status"], line["error"]) == (499, "client_gone")
