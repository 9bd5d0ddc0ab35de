"""The composition root: the one place that knows which part is built from which."""

import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from ai_proxy import __version__
from ai_proxy.api import error_handlers, openapi
from ai_proxy.api.dependencies import State
from ai_proxy.api.middleware import Requests
from ai_proxy.api.routers import ROUTERS
from ai_proxy.core import logging
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Turn
from ai_proxy.gateway.auth import KeyRing
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.routing import Router
from ai_proxy.providers import build_providers
from ai_proxy.providers.http import Http
from ai_proxy.services import keys as key_service
from ai_proxy.storage import history, keys, schema, secret
from ai_proxy.storage.engine import Database

log = structlog.get_logger()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application. Settings come from the environment and `.env` unless they are given."""
    settings = settings or load_settings()
    writer = logging.configure(level=settings.log_level, log_format=settings.log_format)
    metrics = Metrics()
    metrics.watch("aiproxy_log_lines_dropped", "Lines that STDOUT could not take.", lambda: writer.dropped)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with running(settings, metrics) as state:
            yield state

    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="AI Proxy",
        version=__version__,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(Requests, metrics=metrics)
    error_handlers.install(app)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app)
    return app


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
    """Build every part, bottom layer first; close them in reverse."""
    async with (
        Database(settings.database_url, directory=settings.data_directory) as database,
        Http(settings.upstream) as http,
        Recorder(partial(history.add, database), settings.recorder) as recorder,
    ):
        if settings.migrate:
            await _migrate(database)
        server_secret = secret_of(settings)
        await _first_key(settings, database, server_secret)
        router = Router(build_providers(settings, http), default_model=settings.default_model)

        async def earlier(key_id: str, conversation_id: str) -> Sequence[Turn]:
            return await history.earlier(database, key_id, conversation_id, budget=settings.conversation_budget)

        _watch(metrics, recorder)
        _settle_memory()
        yield State(
            gateway=Gateway(router, recorder, earlier, metrics),
            keyring=KeyRing(partial(keys.find, database), secret=server_secret),
            recorder=recorder,
            database=database,
            metrics=metrics,
            server=settings.server,
        )


def secret_of(settings: Settings) -> bytes:
    """The secret that keys are hashed with."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return secret.load_or_make(settings.data_directory)


async def _migrate(database: Database) -> None:
    try:
        if await schema.current(database) != schema.HEAD:
            await schema.upgrade(database)
    except DatabaseUnavailable as error:
        message = f"ai-proxy: DATABASE_URL: the database cannot be opened: {error.__cause__}"
        raise SystemExit(message.splitlines()[0]) from None


async def _first_key(settings: Settings, database: Database, server_secret: bytes) -> None:
    given = None if settings.api_key is None else settings.api_key.get_secret_value()
    key = await key_service.ensure_first(database, server_secret, given)
    _greet(settings, key)


def _greet(settings: Settings, key: str | None) -> None:
    """How to begin, for a person: on STDERR, because STDOUT has the log. The key is shown this once."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    url = f"http://{host}:{settings.port}"
    lines = [f"AI Proxy {__version__} on {url} (API: {url}/docs)"]
    if settings.uses_mock:
        lines.append("Mock mode: set OPENAI_API_KEY or OPENROUTER_API_KEY for real answers.")
    if key is not None:
        lines.append(f"Your API key, shown only now: {key}")
    shown = key or "$AI_PROXY_API_KEY"
    lines.append(
        f"Try it:\n  curl {url}/api/ask -H 'Authorization: Bearer {shown}'".replace("'", '"')
        + " -H 'Content-Type: application/json' -d '{\"question\": \"What is the capital of France?\"}'"
    )
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _watch(metrics: Metrics, recorder: Recorder) -> None:
    metrics.watch("aiproxy_records_waiting", "Calls not yet in the history.", lambda: recorder.held)
    metrics.watch("aiproxy_records_lost", "Calls that will never be in the history.", lambda: recorder.lost)


def _settle_memory() -> None:
    """What has been loaded stays: the garbage collector need not walk through it again and again.

    Measured: a third of the CPU of a call went into full collections over modules and classes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
