"""/api/limits and /api/budgets: what is set is in force at once, and people see what is theirs."""

import base64
import hashlib
import hmac
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import httpx2
import pytest

from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import OPERATOR_ID
from tests.service import Service
from tests.upstream import Upstream, status

NOBODY = "01980000-0000-7000-8000-000000000009"
SECRET = "what the messages are signed with"
PRICES = {
    "openai/small": {"input": 0, "output": 125_000}
}  # so that a call, which is answered with 4 tokens, costs $0.50


class Holder:
    """A user with a role and a key that may manage."""

    def __init__(self, service, role: str, name: str) -> None:
        self.user_id = uuid7() if name != "operator" else OPERATOR_ID
        key = service.new_key(name)
        with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", timeout=10)) as database, database:
            database.execute(
                "insert or ignore into users (id, name, role, created_at) values (?, ?, ?, 1)",
                (self.user_id, name, role),
            )
            database.execute(
                "update api_keys set user_id = ?, scopes = ? where name = ?",
                (self.user_id, '["calls", "history", "manage"]', name),
            )
            [(self.key_id,)] = database.execute("select id from api_keys where name = ?", (name,)).fetchall()
        self.client = service.client_with(key)

    def put(self, path: str, **body) -> httpx2.Response:
        return self.client.put(path, json=body)

    def ask(self) -> httpx2.Response:
        return self.client.post("/api/ask", json={"question": "ping"})


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One server with a provider that costs money, and a receiver of alerts."""
    with Upstream() as upstream, Upstream() as receiver:
        receiver.handler = status(204)
        service = Service(
            tmp_path_factory.mktemp("limits"),
            OPENAI_API_KEY="sk-upstream-canary-key",
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_BUDGETS__MAX_OUTPUT_TOKENS=4,
            AI_PROXY_BUDGETS__WAIT=0,
            AI_PROXY_ALERTS__URL=receiver.url,
            AI_PROXY_ALERTS__SECRET=SECRET,
        )
        service.configure(prices=PRICES).start()
        service.receiver = receiver
        yield service
        assert service.stop() == 0
        service.client.close()


@pytest.fixture(scope="module")
def admin(service):
    holder = Holder(service, "admin", "operator")
    yield holder
    holder.client.close()


@pytest.fixture
def person(service):
    """Makes users with a key each; their clients are closed at the end."""
    made = []

    def person(role: str = "member") -> Holder:
        made.append(Holder(service, role, f"{role} {uuid7()}"))
        return made[-1]

    yield person
    for holder in made:
        holder.client.close()


def problem(response: httpx2.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def listed(holder: Holder, what: str) -> dict[str, dict]:
    items = holder.client.get(f"/api/{what}").raise_for_status().json()["items"]
    return {item["subject"]: item for item in items}


@pytest.mark.parametrize("kind", ["key", "user"])
def test_a_limit_holds_from_the_next_call_on_and_until_it_is_removed(admin, person, kind):
    member = person()
    path = f"/api/limits/{kind}/{member.key_id if kind == 'key' else member.user_id}"
    before = member.ask()

    answer = admin.put(path, requests_per_minute=1)
    allowed, refused = member.ask(), member.ask()
    removed = admin.client.delete(path)
    after = member.ask()

    assert answer.status_code == 200
    assert [before.status_code, allowed.status_code, after.status_code] == [200, 200, 200]
    assert problem(refused)[:2] == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert (removed.status_code, removed.content) == (204, b"")


def test_a_limit_of_the_service_holds_for_everybody(admin, person):
    member = person()

    admin.put("/api/limits/service", requests_per_minute=1).raise_for_status()
    first, second = admin.ask(), member.ask()
    admin.client.delete("/api/limits/service").raise_for_status()

    assert (first.status_code, second.status_code) == (200, 429)
    assert member.ask().status_code == 200


def test_a_limit_is_answered_and_listed_with_its_name(admin, person):
    member = person()

    answer = admin.put(f"/api/limits/key/{member.key_id}", concurrent=5).json()
    again = admin.put(f"/api/limits/key/{member.key_id}", requests_per_minute=10).json()

    subject = f"key:{member.key_id}"
    assert answer["subject"] == subject
    assert answer["name"].startswith("member ")
    assert again == {**answer, "requests_per_minute": 10}
    assert listed(admin, "limits")[subject] == listed(member, "limits")[subject] == again


def test_a_budget_shows_what_is_spent_and_what_is_left(admin, person):
    member = person()
    path = f"/api/budgets/user/{member.user_id}/day"
    admin.put(path, amount_usd="2.00").raise_for_status()

    member.ask().raise_for_status()

    item = listed(member, "budgets")[f"user:{member.user_id}"]
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert item == {
        "subject": f"user:{member.user_id}",
        "name": item["name"],
        "period": "day",
        "amount_usd": "2.00",
        "alerts": [80, 100],
        "spent_usd": "0.50",
        "remaining_usd": "1.50",
        "starts_at": today.isoformat().replace("+00:00", "Z"),
        "ends_at": item["ends_at"],
    }
    assert (datetime.fromisoformat(item["ends_at"]) - datetime.fromisoformat(item["starts_at"])).days == 1
    assert listed(admin, "budgets")[f"user:{member.user_id}"] == item


def test_a_total_has_no_beginning_and_no_end(admin, person):
    item = admin.put(f"/api/budgets/user/{person().user_id}/total", amount_usd=1).json()

    assert (item["starts_at"], item["ends_at"], item["remaining_usd"]) == (None, None, "1.00")


def test_a_budget_that_is_spent_refuses_the_next_call_and_a_larger_one_lets_it_through(admin, person):
    member = person()
    path = f"/api/budgets/key/{member.key_id}/month"
    admin.put(path, amount_usd="0.50").raise_for_status()
    first = member.ask()

    refused = member.ask()
    admin.put(path, amount_usd="1").raise_for_status()
    allowed = member.ask()

    assert first.status_code == 200
    assert problem(refused)[:2] == (429, "insufficient_quota")
    assert allowed.status_code == 200


def test_an_alert_reaches_the_operators_address_with_a_signature_and_the_log(service, admin, person):
    member = person()
    subject = f"user:{member.user_id}"
    admin.put(f"/api/budgets/user/{member.user_id}/week", amount_usd="1", alerts=[50]).raise_for_status()

    member.ask().raise_for_status()

    def told():
        return [one for one in service.receiver.connections if one.json["data"]["subject"] == subject]

    [message] = service.eventually(told)
    signed = f"{message.header('webhook-id')}.{message.header('webhook-timestamp')}.".encode() + message.body
    right = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    data = {"subject": subject, "period": "week", "percent": 50, "spent_usd": "0.50", "amount_usd": "1.00"}
    assert message.header("webhook-signature") == f"v1,{right}"
    assert (message.json["type"], message.json["data"]) == ("budget.threshold", data)
    [line] = service.eventually(lambda: [line for line in service.log() if line.get("subject") == subject])
    assert (line["message"], line["level"]) == ("budget: 50 % spent", "warning")
    assert "aiproxy_alerts_dropped_total 0.0" in service.client.get("/metrics").text


def test_members_set_limits_and_budgets_of_their_own_keys(person):
    member = person()

    limited = member.put(f"/api/limits/key/{member.key_id}", requests_per_minute=1)
    given = member.put(f"/api/budgets/key/{member.key_id}/day", amount_usd="5", alerts=[])

    assert (limited.status_code, given.status_code) == (200, 200)
    assert given.json()["alerts"] == []
    assert [member.ask().status_code for _ in range(2)] == [200, 429]


def test_members_set_and_see_nothing_of_others(admin, person):
    member, other = person(), person()
    admin.put(f"/api/limits/key/{other.key_id}", concurrent=9).raise_for_status()
    admin.put(f"/api/budgets/user/{other.user_id}/day", amount_usd=9).raise_for_status()

    tries = [
        member.put(f"/api/limits/key/{other.key_id}", concurrent=1),
        member.put(f"/api/limits/user/{other.user_id}", concurrent=1),
        member.put(f"/api/budgets/key/{other.key_id}/day", amount_usd=1),
        member.client.delete(f"/api/limits/key/{other.key_id}"),
        member.client.delete(f"/api/budgets/user/{other.user_id}/day"),
    ]

    assert {problem(response)[:2] for response in tries} == {(404, "not_found")}
    assert listed(member, "limits") == listed(member, "budgets") == {}
    assert listed(other, "limits")[f"key:{other.key_id}"]["concurrent"] == 9


def test_members_do_not_set_what_holds_for_themselves_or_everybody(person):
    member = person()

    tries = [
        member.put(f"/api/limits/user/{member.user_id}", concurrent=1),
        member.put(f"/api/budgets/user/{member.user_id}/day", amount_usd=1),
        member.put("/api/limits/service", concurrent=1),
        member.put("/api/budgets/service/day", amount_usd=1),
        member.client.delete("/api/limits/service"),
        member.client.delete("/api/budgets/service/day"),
    ]

    assert {problem(response)[:2] for response in tries} == {(403, "permission_denied")}


def test_viewers_read_only(person):
    viewer = person("viewer")

    refused = viewer.put(f"/api/limits/key/{viewer.key_id}", concurrent=1)

    assert problem(refused)[:2] == (403, "permission_denied")
    assert listed(viewer, "limits") == {}


@pytest.mark.parametrize("path", ["limits", "budgets"])
def test_a_key_that_may_not_manage_sees_nothing(service, path):
    with service.client_with(service.new_key("calls only")) as client:
        assert problem(client.get(f"/api/{path}"))[:2] == (403, "permission_denied")


@pytest.mark.parametrize("path", ["limits", "budgets"])
def test_nobody_sees_anything_without_a_key(service, path):
    assert httpx2.get(f"{service.url}/api/{path}").status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("limits/service", {"concurrent": 1, "subject": "user:x"}, "subject"),
        ("limits/service", {"concurrent": 0}, "concurrent"),
        ("limits/service", {"requests_per_minute": 10**9 + 1}, "requests_per_minute"),
        ("limits/service", {"tokens_per_minute": "5"}, "tokens_per_minute"),
        ("limits/service", {"tokens_per_minute": True}, "tokens_per_minute"),
        ("limits/service", {"tokens_per_minute": 1.5}, "tokens_per_minute"),
        ("limits/service", {}, None),
        ("budgets/service/day", {"amount_usd": "1", "spent": 0}, "spent"),
        ("budgets/service/day", {"amount_usd": "1", "spent_usd": "0"}, "spent_usd"),
        ("budgets/service/day", {"amount_usd": "1", "period": "month"}, "period"),
        ("budgets/service/day", {}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": None}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "five"}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": True}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "0"}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "-1"}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "1000000000.01"}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": 1e300}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "0.0000000001"}, "amount_usd"),
        ("budgets/service/day", {"amount_usd": "1", "alerts": [0]}, "alerts.0"),
        ("budgets/service/day", {"amount_usd": "1", "alerts": [101]}, "alerts.0"),
        ("budgets/service/day", {"amount_usd": "1", "alerts": [1, 2, 3, 4, 5, 6]}, "alerts"),
        ("budgets/service/day", {"amount_usd": "1", "alerts": 80}, "alerts"),
    ],
)
def test_what_is_wrong_or_not_to_be_set_is_refused_by_name(admin, path, body, param):
    refused = admin.put(f"/api/{path}", **body)

    assert problem(refused) == (400, "invalid_request", param)
    assert "service" not in listed(admin, "limits") | listed(admin, "budgets")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("5", "5.00"), (5, "5.00"), (0.1, "0.10"), (1e-9, "0.000000001"), ("1000000000", "1000000000.00")],
)
def test_an_amount_is_text_or_a_number(admin, person, amount, shown):
    item = admin.put(f"/api/budgets/user/{person().user_id}/day", amount_usd=amount).json()

    assert item["amount_usd"] == shown


@pytest.mark.parametrize(
    "path",
    [
        f"limits/user/{NOBODY}",
        "limits/user/ada",
        "limits/user/%00",
        "limits/service/x",
        f"limits/team/{NOBODY}",
        f"budgets/project/{NOBODY}/day",
        "budgets/service/year",
    ],
)
def test_what_is_not_there_is_404(admin, path):
    body = {"amount_usd": "1"} if path.startswith("budgets") else {"concurrent": 1}

    assert problem(admin.put(f"/api/{path}", **body))[:2] == (404, "not_found")
    assert problem(admin.client.delete(f"/api/{path}"))[:2] == (404, "not_found")


def test_changes_are_in_the_audit_log_with_who_made_them_and_in_which_request(service, admin, person):
    member = person()
    path = f"/api/limits/key/{member.key_id}"

    request_id = member.put(path, concurrent=1).headers["x-request-id"]
    member.client.delete(path)

    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db")) as database:
        query = "select action, actor_id, request_id, address, details from audit where target = ? order by id"
        entries = database.execute(query, (f"key:{member.key_id}",)).fetchall()
    first, second = [entry for entry in entries if entry[0].startswith("limit.")]
    assert first[:4] == ("limit.set", member.user_id, request_id, "127.0.0.1")
    details = json.loads(first[4])
    assert (details["before"], details["after"]) == (None, {"concurrent": 1})
    assert second[:2] == ("limit.remove", member.user_id)


def test_what_the_command_line_sets_is_seen_by_the_server(service, admin, person):
    member = person()

    done = service.run("budgets", "set", f"user:{member.user_id}", "day", "3")

    assert done.returncode == 0, done.stderr
    assert listed(admin, "budgets")[f"user:{member.user_id}"]["amount_usd"] == "3.00"
