"""GET /api/audit, and what the audit log tells."""

import csv
import io
import json
import signal

import pytest

from tests import ledger


@pytest.fixture(scope="module")
def service(mocked):
    """A server whose log has five entries of `number.0` to `number.4`."""
    for number in range(5):
        write(mocked, f"00000000-0000-7000-8000-00000000000{number}", f"number.{number}")
    return mocked


def write(service, identifier: str, action: str, *, actor: str = "ann", details: str = "{}") -> None:
    ledger.change(
        service,
        """insert into audit (id, created_at, actor_id, actor, action, target, details, address, request_id)
           values (?, 1000000, 'a', ?, ?, 'user:x', ?, '192.0.2.1', 'r')""",
        identifier,
        actor,
        action,
        details,
    )


@pytest.fixture(scope="module")
def admin(service):
    """A client whose key may manage, with the operator's role."""
    key = service.new_key("manager")
    ledger.change(service, """update api_keys set scopes = '["manage"]' where name = 'manager'""")
    with service.client_with(key) as client:
        yield client


def entries(client, **query) -> list[dict]:
    return client.get("/api/audit", params=query).raise_for_status().json()["items"]


def test_the_pages_cover_everything_exactly_once(admin):
    found, cursor = [], None
    while True:
        query = {"actor": "ann", "to": "1970-01-01", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = admin.get("/api/audit", params=query).raise_for_status().json()
        found.append([item["action"][-1] for item in page["items"]])
        if (cursor := page["next_cursor"]) is None:
            break

    assert found == [["4", "3"], ["2", "1"], ["0"]]


def test_an_entry_has_the_promised_shape(admin):
    (item,) = entries(admin, action="number.3")

    assert item == {
        "id": "00000000-0000-7000-8000-000000000003",
        "created_at": "1970-01-01T00:00:01Z",
        "actor_id": "a",
        "actor": "ann",
        "action": "number.3",
        "target": "user:x",
        "details": {},
        "address": "192.0.2.1",
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"action": "x" * 51}, "action"),
        ({"format": "xml"}, "format"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(admin, query, param):
    response = admin.get("/api/audit", params=query)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_as_csv_it_is_whole_and_obeys_nobody(service, admin):
    write(service, "00000000-0000-7000-8000-0000000000ff", "login.failed", actor="=1+1", details='{"a": "é"}')

    response = admin.get("/api/audit", params={"to": "1970-01-01", "format": "csv", "limit": 1})

    (newest, *others) = csv.DictReader(io.StringIO(response.text))
    assert response.headers["content-type"].startswith("text/csv")
    assert (newest["actor"], newest["created_at"]) == ("'=1+1", "1970-01-01T00:00:01Z")
    assert json.loads(newest["details"]) == {"a": "é"}
    assert len(others) == 5
    assert entries(admin, action="audit.export")[0]["details"]["rows"] == 6


@pytest.mark.parametrize("role", ["member", "viewer"])
def test_only_administrators_may_read_it_and_a_refusal_is_in_it(service, admin, role):
    key = service.new_key(f"a {role}'s")
    ledger.change(service, "insert into users (id, name, role, created_at) values (?1, ?1, ?1, 1)", role)
    ledger.change(
        service, """update api_keys set user_id = ?1, scopes = '["manage"]' where name = 'a ' || ?1 || '''s'""", role
    )

    with service.client_with(key) as client:
        response = client.get("/api/audit")

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "permission_denied"
    assert [entry["actor"] for entry in entries(admin, action="refusal", actor=role)] == [role]


def test_a_key_without_the_scope_may_not_read_it(mocked):
    assert mocked.client.get("/api/audit").status_code == 403


def test_without_a_key_there_is_nothing(mocked):
    assert mocked.client.get("/api/audit", headers={"authorization": ""}).status_code == 401


def test_a_reload_is_in_the_log_with_what_was_wrong(start, tmp_path):
    service = start(tmp_path)

    def reloads() -> list[dict]:
        return [entry for entry in ledger.audit(service) if entry["action"] == "configuration.reload"]

    service.process.send_signal(signal.SIGHUP)
    service.eventually(lambda: len(reloads()) == 1)
    (tmp_path / "ai-proxy.toml").write_text("[models.fast]\ntargets = []")
    service.process.send_signal(signal.SIGHUP)
    service.eventually(lambda: len(reloads()) == 2)

    newest, oldest = reloads()
    assert (oldest["actor"], oldest["target"]) == ("SIGHUP", "configuration")
    assert oldest["details"] == {"outcome": "in force", "problems": []}
    assert newest["details"]["outcome"] == "refused"
    assert "models.fast" in newest["details"]["problems"][0]
