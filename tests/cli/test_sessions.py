"""`ai-proxy sessions …`, on the database of a running service."""

import json

import pytest


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def signed_in(service):
    """A service, and a function that signs the user in and says who asks now."""
    made = service.run("users", "create", "ada", "--generate")
    password = made.stdout.rpartition("password: ")[2].split()[0]

    def signed_in() -> None:
        login = {"name": "ada", "password": password}
        service.client.post("/api/auth/login", json=login, headers={"origin": service.url}).raise_for_status()

    return signed_in


def me(service) -> int:
    del service.client.headers["authorization"]
    return service.client.get("/api/auth/me").status_code


def test_logins_are_listed_and_ended_at_once(service, signed_in):
    signed_in()

    [login] = json.loads(service.run("sessions", "list", "ada", "--json").stdout)
    table = service.run("sessions", "list", "ada").stdout
    ended = service.run("sessions", "end", login["id"])

    assert login["address"] == "127.0.0.1"
    assert table.startswith(login["id"])
    assert (ended.returncode, ended.stdout) == (0, "Ended.\n")
    assert me(service) == 401
    assert json.loads(service.run("sessions", "list", "ada", "--json").stdout) == []


def test_all_of_a_users_are_ended_together(service, signed_in):
    signed_in()
    signed_in()

    ended = service.run("sessions", "end-all", "ada")

    assert ended.stdout == "Ended: 2.\n"
    assert me(service) == 401


def test_who_is_not_there_is_said_in_one_line(service):
    nobody = service.run("sessions", "list", "nobody")
    ended = service.run("sessions", "end", "01")

    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert ended.stderr == "ai-proxy: There is no such session, or it has ended.\n"
