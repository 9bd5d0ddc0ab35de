"""Addresses of databases: which are taken, and that nobody sees their passwords."""

import pytest

from ai_proxy.core.config import Settings, load_settings
from ai_proxy.core.shown import shown
from ai_proxy.core.sources import Sources

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def given(monkeypatch):
    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return given


def refusal() -> str:
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    return str(stopped.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_server_is_named_as_hosters_name_it(given, scheme):
    given(DATABASE_URL=f"{scheme}://user:p%40ss@db:5432/name?sslmode=require", AI_PROXY_SECRET="x" * 20)

    settings = load_settings()

    assert settings.database_url == "postgresql+psycopg://user:p%40ss@db:5432/name?sslmode=require"


def test_the_databases_password_is_not_shown_with_the_settings(given):
    given(
        DATABASE_URL="postgresql://user:canary-1@db/name?password=canary-2&application_name=x", AI_PROXY_SECRET="x" * 20
    )
    settings = load_settings()

    shown_rows = shown(settings, Sources(Settings, None))

    address = next(row.value for row in shown_rows if row.setting == "database_url")
    assert address == "postgresql+psycopg://user:…@db/name?password=…&application_name=x"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "url", ["postgresql://user:canary@db", "postgresql://user:canary@db:x/name", "my://a:canary@db/x"]
)
def test_a_wrong_address_of_the_database_is_told_without_its_password(given, url):
    given(DATABASE_URL=url)

    assert "canary" not in refusal()


def test_a_database_on_a_server_needs_a_secret_that_is_given(given):
    given(DATABASE_URL="postgresql://user:canary@db/name")

    line = refusal()

    assert line.startswith("ai-proxy: AI_PROXY_SECRET: must be set with PostgreSQL")
    assert "canary" not in line
