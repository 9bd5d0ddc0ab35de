"""People, keys, projects and logins of a running service, made as often as a test needs them."""

import json
import secrets
import sqlite3
import subprocess
import time

import httpx2

from ai_proxy.core import apikeys
from ai_proxy.core.ids import uuid7
from tests.service import AI_PROXY, Service, environment

SERVER_SECRET = "the-tests-own-server-secret-0123456789"
PASSWORD = "correct horse battery staple"
ROLES = ("admin", "member", "viewer")
SCOPES = ("calls", "history", "manage")


_COUNTS = ("input", "output", "cache_read", "cache_write", "input_audio", "output_audio", "reasoning")
_FIGURES = {
    **{f"{name}_tokens": 1 for name in _COUNTS},
    **dict.fromkeys(("mock", "stream", "cached", "usage_estimated", "duration_ms", "waited_ms"), 0),
    **dict.fromkeys(("model", "provider", "asked_model"), "mock"),
    "status": "completed",
    "dialect": "ask",
    "attempts": "[]",
    "texts": "plain",
}


class World:
    """A service with a user of each role, made by the command line. All else is put into its database."""

    def __init__(self, directory) -> None:
        self.service = Service(directory, AI_PROXY_SECRET=SERVER_SECRET, AI_PROXY_MOCK__TOKEN_DELAY=0).start()
        self._secret = apikeys.hashing_secret(SERVER_SECRET)
        self._database = sqlite3.connect(directory / "data" / "ai-proxy.db", isolation_level=None, timeout=10)
        self._database.execute("PRAGMA foreign_keys = ON")
        self.names = {role: f"secret-{role}@example.org" for role in ROLES}
        self.users = {role: self._create(name, role) for role, name in self.names.items()}
        self.client = httpx2.Client(base_url=self.service.url, timeout=30)

    def close(self) -> None:
        self._database.close()
        self.client.close()
        assert self.service.stop() == 0
        self.service.client.close()

    def _create(self, name: str, role: str) -> str:
        done = subprocess.run(
            [AI_PROXY, "users", "create", name, "--role", role, "--password-stdin"],
            input=f"{PASSWORD}\n",
            check=False,
            cwd=self.service.directory,
            env=environment(**self.service.settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        [(user_id,)] = self._database.execute("SELECT id FROM users WHERE name = ?", (name,)).fetchall()
        return user_id

    # Somebody's things

    def user(self, role: str = "member") -> str:
        return self._add("users", name=f"secret-user-{secrets.token_hex(8)}", role=role)

    def project(self, *members: str) -> str:
        project_id = self._add("projects", name=f"secret-project-{secrets.token_hex(8)}")
        for user_id in members:
            self._insert("members", project_id=project_id, user_id=user_id)
        return project_id

    def key(self, user_id: str, scopes=("calls", "history")) -> tuple[str, str]:
        """A new key: its id, and itself."""
        key = apikeys.new_key()
        key_id = self._add(
            "api_keys",
            name="secret-key-name",
            digest=apikeys.digest(key, self._secret),
            hint=apikeys.hint(key),
            user_id=user_id,
            scopes=json.dumps(sorted(scopes)),
            labels="{}",
        )
        return key_id, key

    def login(self, user_id: str) -> tuple[str, str]:
        """A new session: its id, and what the cookie holds."""
        token, now = secrets.token_urlsafe(32), time.time_ns() // 1000
        session_id = self._add(
            "sessions",
            digest=apikeys.digest(token, self._secret),
            user_id=user_id,
            seen_at=now,
            expires_at=now + 3_600_000_000,
            address="192.0.2.77",
            agent="secret-agent",
        )
        return session_id, token

    def exchange(self, user_id: str, key_id: str, project_id: str | None = None) -> tuple[str, str]:
        """A new exchange, and its conversation."""
        conversation_id = uuid7()
        whose = {"key_id": key_id, "user_id": user_id, "project_id": project_id}
        exchange_id = self._add(
            "exchanges",
            **whose,
            **_FIGURES,
            conversation_id=conversation_id,
            question="secret-question",
            answer="secret-answer",
        )
        place = {"first_id": exchange_id, "last_id": exchange_id, "exchanges": 1}
        self._insert("conversations", id=conversation_id, **whose, **place)
        return exchange_id, conversation_id

    def limited(self, subject: str) -> str:
        """The subject, which now has limits and a budget."""
        self._insert("limits", subject=subject, requests_per_minute=10**6)
        for period in ("day", "month"):
            self._insert("budgets", subject=subject, period=period, amount=10**18, alerts="[]")
        return subject

    def _add(self, table: str, **values) -> str:
        values |= {"id": uuid7(), "created_at": time.time_ns() // 1000}
        self._insert(table, **values)
        return values["id"]

    def _insert(self, table: str, **values) -> None:
        marks = ", ".join("?" * len(values))
        into = f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({marks})"  # noqa: S608 - all our own
        self._database.execute(into, tuple(values.values()))
