"""What a start does before calls can be served: the schema, the secret, the first key, and a greeting."""

import json
import shlex
from typing import NamedTuple

import structlog

from ai_proxy import __version__
from ai_proxy.core import apikeys
from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.ids import uuid7
from ai_proxy.core.logging import say
from ai_proxy.services import accounts
from ai_proxy.services.keys import Keys
from ai_proxy.services.times import now
from ai_proxy.storage import history, keys, schema
from ai_proxy.storage import secret as stored_secret
from ai_proxy.storage.engine import Database

log = structlog.get_logger()

_A_MODEL = "MODEL"
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not listened on


class ServerSecret(NamedTuple):
    """What keys are hashed with. `is_new`: nobody had one here before."""

    value: bytes
    is_new: bool


def find_secret(settings: Settings) -> ServerSecret:
    """That of the settings, or the one beside the data; made, if there is none yet."""
    is_new = settings.secret is None and not stored_secret.exists(settings.data_directory)
    return ServerSecret(secret_of(settings), is_new)


async def prepare(settings: Settings, database: Database, secret: ServerSecret) -> None:
    """Bring the database to where calls can be served, and greet. Harmless a second time after a failure.

    Raises `DatabaseUnavailable`; exits with a clear line if the schema is not one to work with.
    """
    await settle_schema(settings, database)
    # Before the first key: if that fails and all is done again, this is still the first start.
    is_first = not await keys.any_exist(database)
    if secret.is_new and not is_first:
        log.warning("keys: the secret file is gone, so no earlier key works: restore it, or make new keys")
    if await _has_lost_its_key(database):
        log.error("encryption: no key is set: texts are stored in clear from now on, those before cannot be read")
    setup_token = await accounts.new_setup_token(database, secret.value) if is_first else None
    new_key = await ensure_first(database, secret.value, settings.given_key)
    say(greeting(settings, new_key, setup_token))


async def _has_lost_its_key(database: Database) -> bool:
    """Whether texts were encrypted until now, and are not any more. A damaged history must not stop the start."""
    if database.cipher is not None:
        return False
    try:
        return await history.newest_is_encrypted(database)
    except DatabaseUnavailable:
        return False


def secret_of(settings: Settings) -> bytes:
    """The secret that keys are hashed with; made, if there is none yet."""
    given = settings.secret
    text = stored_secret.load_or_make(settings.data_directory) if given is None else given.get_secret_value()
    return apikeys.hashing_secret(text)


async def keys_at_command_line(settings: Settings, database: Database) -> Keys:
    """The keys, for a process that does not serve.

    Exits with a clear line where the keys' secret is lost: a running service would not know a new key.
    """
    if await _have_lost_their_secret(settings, database):
        message = "ai-proxy: the secret that the other keys were made with is not here: set AI_PROXY_SECRET"
        raise SystemExit(message)
    return Keys(database, secret_of(settings), given=settings.given_key)


async def ensure_first(database: Database, secret: bytes, given: str | None) -> str | None:
    """See to it that there is a key. Returns the new one if it had to be made up, to be shown once.

    `given` is the operator's own key: it is stored if it is new, and never returned. One that was revoked or rotated
    does not come back.
    """
    if given is not None:
        await _ensure_given(database, secret, given)
        return None
    if await keys.any_exist(database):
        return None
    key = apikeys.new_key()
    await _store(database, secret, name="first", key=key)
    return key


async def _ensure_given(database: Database, secret: bytes, given: str) -> None:
    if await _store(database, secret, name="from AI_PROXY_API_KEY", key=given):
        return
    found = await keys.find(database, apikeys.digest(given, secret))
    if found is None or (found.expires_at is not None and found.expires_at <= now()):
        log.warning("keys: the key of AI_PROXY_API_KEY was revoked, rotated or has expired: set one that works")


async def _store(database: Database, secret: bytes, *, name: str, key: str) -> bool:
    digest, hint = apikeys.digest(key, secret), apikeys.hint(key)
    return await keys.add(database, key_id=uuid7(), name=name, digest=digest, hint=hint, created_at=now())


async def _have_lost_their_secret(settings: Settings, database: Database) -> bool:
    """Whether there are keys that were hashed with a secret which is not here."""
    if settings.secret is not None or stored_secret.exists(settings.data_directory):
        return False
    return await keys.any_exist(database)


def greeting(settings: Settings, new_key: str | None, setup_token: str | None = None) -> str:
    """How to begin, for a person. A new key is shown this once, and so is the token for the first administrator."""
    url = _url(settings)
    lines = [_first_line(settings)]
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


def greeting_without_database(settings: Settings, reason: str) -> str:
    """That it runs nevertheless, and what works."""
    return (
        f"{_first_line(settings)}\n"
        f"The database cannot be reached: {reason}\n"
        "It is tried again every second. Until then AI_PROXY_API_KEY works, and keys that were seen before.\n"
    )


def _first_line(settings: Settings) -> str:
    url = _url(settings)
    return f"AI Proxy {__version__} on {url} (API: {url}/docs)"


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
