"""What a start does before calls can be served: the schema, the secret, the first key, and a greeting."""

import json
import shlex

import structlog

from ai_proxy import __version__
from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.logging import say
from ai_proxy.services import accounts, keys
from ai_proxy.services.keys import secret_of
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database, outlast_lock

log = structlog.get_logger()

_A_MODEL = "MODEL"
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not listened on


async def prepare(settings: Settings, database: Database) -> bytes:
    """Bring the database to where calls can be served. Returns the secret; exits with a clear line if it can't."""
    try:
        return await outlast_lock(lambda: _prepare(settings, database))
    except DatabaseUnavailable as error:
        message = f"ai-proxy: DATABASE_URL: the database cannot be used: {error.reason}"
        raise SystemExit(message) from None


async def _prepare(settings: Settings, database: Database) -> bytes:
    await settle_schema(settings, database)
    await _warn_of_a_lost_secret(settings, database)
    server_secret = secret_of(settings)
    # Before the first key: if that fails and all is done again, this is still the first start.
    setup_token = await accounts.new_setup_token(database, server_secret) if await keys.none_exist(database) else None
    new_key = await keys.ensure_first(database, server_secret, settings.given_key)
    say(greeting(settings, new_key, setup_token))
    return server_secret


def greeting(settings: Settings, new_key: str | None, setup_token: str | None = None) -> str:
    """How to begin, for a person. A new key is shown this once, and so is the token for the first administrator."""
    url = _url(settings)
    lines = [f"AI Proxy {__version__} on {url} (API: {url}/docs)"]
    if settings.uses_mock:
        lines.append(mock_mode(settings))
    if new_key is not None:
        lines.append(f"Your API key, shown only now: {new_key}")
    if setup_token is not None:
        lines += [
            "To sign in with a password, make the first administrator: ai-proxy users create NAME --admin",
            f"or use this token within an hour, as docs/accounts.md says: {setup_token}",
        ]
    yours = "with your key in AI_PROXY_API_KEY ('ai-proxy keys create NAME' makes another)"
    lines.append("Try it:" if new_key is not None else f"Try it, {yours}:")
    question = {"question": "What is the capital of France?", **_model_to_name(settings)}
    lines.append(
        f'  curl {url}/api/ask -H "Authorization: Bearer {new_key or "$AI_PROXY_API_KEY"}"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(question, ensure_ascii=False))}"
    )
    if question.get("model") == _A_MODEL:
        lines.append(f"with a name in place of {_A_MODEL}; AI_PROXY_DEFAULT_MODEL is the model of questions without.")
    return "\n".join(lines) + "\n"


def _url(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def mock_mode(settings: Settings) -> str:
    """That the mock answers, and what to do about it."""
    return f"Mock mode: {_way_out(settings)} for real answers."


def _model_to_name(settings: Settings) -> dict[str, str]:
    """The field that a question needs when there is no default model: the first that the settings name."""
    first = next(iter(settings.resolved_providers().values()))
    if settings.default_model or first.default_model:
        return {}
    return {"model": next(iter(settings.models), None) or next(iter(first.models or ()), _A_MODEL)}


def _way_out(settings: Settings) -> str:
    if settings.mock_mode:
        return "unset MOCK_MODE"
    if address := settings.address_without_key:
        return f"{address[0]} is set, set {address[1]} too (any text, if that server asks for no key)"
    return "set a provider's key, such as OPENAI_API_KEY (docs/configuration.md),"


async def settle_schema(settings: Settings, database: Database) -> None:
    """Bring the database to the current schema; exits with a clear line if that is not wanted."""
    found = await schema.current(database)
    if found == schema.HEAD:
        return
    if not settings.migrate:
        state = "empty" if found is None else f"at {found}, not at {schema.HEAD}"
        message = f"ai-proxy: AI_PROXY_MIGRATE is false, and the database is {state}: run 'ai-proxy db upgrade'"
        raise SystemExit(message)
    await schema.upgrade(database)


async def _warn_of_a_lost_secret(settings: Settings, database: Database) -> None:
    if await keys.have_lost_their_secret(database, settings):
        log.warning("keys: the secret file is gone, so no earlier key works: restore it, or make new keys")
