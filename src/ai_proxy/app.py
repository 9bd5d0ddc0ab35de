"""The composition root: the one place that knows which part is built from which."""

import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from ai_proxy import __version__
from ai_proxy.api import error_handlers, lifespan, openapi
from ai_proxy.api.dependencies import State
from ai_proxy.api.direct import Direct
from ai_proxy.api.lifespan import on_hangup
from ai_proxy.api.middleware import Requests
from ai_proxy.api.routers import ROUTERS
from ai_proxy.core import databases, logging
from ai_proxy.core.config import Settings, load_settings, read_settings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import KeptAnswer, Turn
from ai_proxy.gateway.alerts import Alerts
from ai_proxy.gateway.auth import KeyRing
from ai_proxy.gateway.context import Context
from ai_proxy.gateway.idempotency import Idempotency
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.routes import Routes
from ai_proxy.gateway.seen_keys import SeenKeys
from ai_proxy.providers.http import Http
from ai_proxy.services import audit
from ai_proxy.services.accounts import Accounts
from ai_proxy.services.indexing import Indexing
from ai_proxy.services.issuer import Issuer
from ai_proxy.services.keys import Keys
from ai_proxy.services.oidc import Oidc
from ai_proxy.services.retention import Retention
from ai_proxy.services.startup import Startup, Steps
from ai_proxy.services.transfers import Transfers
from ai_proxy.storage import conversations, idempotency, responses
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Database
from ai_proxy.storage.seen_keys import SeenKeysFile
from ai_proxy.storage.spool import Spool


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application. Settings come from the environment and `.env` unless they are given."""
    settings = settings or load_settings()
    writer = logging.configure(level=settings.log_level, log_format=settings.log_format)
    metrics = Metrics()
    metrics.watch("aiproxy_log_lines_dropped_total", "Lines that STDOUT could not take.", lambda: writer.dropped)

    @asynccontextmanager
    async def parts(_: FastAPI) -> AsyncIterator[State]:
        async with running(settings, metrics) as state:
            yield state

    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # to an address that may not be the one that the client knows us by
        title="AI Proxy",
        version=__version__,
        lifespan=parts,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    routes = [route for router in ROUTERS for route in router.routes]
    app.router.routes[:0] = routes
    error_handlers.install(app)
    openapi.install(app)
    lifespan.install(app)
    # Outermost, not `add_middleware`: calls need none of the four layers that the framework puts around those.
    direct = Direct(app.build_middleware_stack(), routes, trusted_proxies=settings.server.trusted_proxies)
    app.middleware_stack = Requests(direct, metrics)
    return app


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
    """Build every part, bottom layer first; close them in reverse."""
    cipher = Cipher.of(settings.encryption)
    database = Database(settings.database_url, directory=settings.data_directory, cipher=cipher)
    startup = Startup(settings, database)
    async with (
        database,
        Http() as http,
        Alerts(http, settings.alerts) as alerts,
        _spool(settings, cipher) as spool,
        _seen_keys(settings) as seen,
        Recorder(startup.write, spool, settings.recorder) as recorder,
    ):
        secret = startup.secret.value
        keyring = KeyRing(startup.find, secret=secret, given=settings.given_key, seen=seen)

        async def kept(key_id: str, key: str) -> KeptAnswer | None:
            startup.check()
            now = time.time_ns() // 1000
            return await recorder.certain(lambda: idempotency.find(database, key_id, key, now=now))

        limiter = _limiter(settings, metrics, alerts)
        gateway = Gateway(recorder, _context(settings, database, startup, recorder), metrics, settings.cache, limiter)
        accounts = Accounts(database, secret, settings.sessions)
        oidc = _oidc(settings, http, accounts, database, secret)
        retention = Retention(database, settings.retention)
        steps = Steps(recorder.recover, accounts.recall, limiter.load, partial(_open, recorder, keyring))
        async with Routes(gateway, http) as routes, accounts, startup.running(steps), Indexing(database), retention:
            await routes.use(settings)
            again = partial(read_settings, host=settings.host, port=settings.port)

            async def reload() -> None:
                await audit.note_reload(database, await routes.reload(again))

            with on_hangup(reload):
                _watch(metrics, recorder, alerts)
                _watch_disk(metrics, database, spool)
                _watch_retention(metrics, retention)
                _settle_memory()
                yield State(
                    gateway=gateway,
                    idempotency=Idempotency(kept),
                    keyring=keyring,
                    limiter=limiter,
                    recorder=recorder,
                    database=database,
                    startup=startup,
                    accounts=accounts,
                    keys=Keys(database, secret, given=settings.given_key),
                    transfers=Transfers(database, keep_texts=settings.retention.keep_texts),
                    oidc=oidc,
                    metrics=metrics,
                    server=settings.server,
                    keep_texts=settings.retention.keep_texts,
                )


def _context(settings: Settings, database: Database, startup: Startup, recorder: Recorder) -> Context:
    async def earlier(key_id: str, conversation_id: str) -> Sequence[Turn]:
        startup.check()
        recorder.check()
        return await conversations.earlier(database, key_id, conversation_id, budget=settings.conversation_budget)

    async def find_response(key_id: str, response_id: str) -> tuple[bytes, bytes] | None:
        startup.check()
        return await recorder.certain(lambda: responses.find_turn(database, key_id, response_id))

    return Context(earlier, find_response, max_bytes=settings.server.max_body_bytes)


def _limiter(settings: Settings, metrics: Metrics, alerts: Alerts) -> Limiter:
    limiter = Limiter(MemoryCounters(), settings.budgets, metrics, alert=alerts.tell)
    limiter.expect()
    return limiter


def _oidc(settings: Settings, http: Http, accounts: Accounts, database: Database, secret: bytes) -> Oidc | None:
    if settings.oidc.issuer is None:
        return None
    return Oidc(Issuer(http, settings.oidc), accounts, database, secret=secret, settings=settings.oidc)


def _open(recorder: Recorder, keyring: KeyRing) -> None:
    recorder.open()
    keyring.settle()


def _watch(metrics: Metrics, recorder: Recorder, alerts: Alerts) -> None:
    metrics.watch("aiproxy_records_waiting", "Calls not yet in the history.", lambda: recorder.held)
    lost = "Calls that will not get into the history by themselves."
    metrics.watch("aiproxy_records_lost_total", lost, lambda: recorder.lost)
    metrics.watch("aiproxy_alerts_dropped_total", "Alerts of budgets that nobody took.", lambda: alerts.dropped)


def _watch_disk(metrics: Metrics, database: Database, spool: Spool) -> None:
    metrics.watch("aiproxy_records_spooled", "Calls that wait in the spool for the database.", lambda: spool.records)
    metrics.watch("aiproxy_spool_bytes", "What these are on the disk.", lambda: spool.bytes)
    metrics.watch("aiproxy_wal_bytes", "SQLite's write-ahead log.", lambda: database.log_bytes)


def _watch_retention(metrics: Metrics, retention: Retention) -> None:
    removed, forgotten = "Calls that were removed for their age.", "Calls that lost their texts for their age."
    metrics.watch("aiproxy_history_removed_total", removed, lambda: retention.removed)
    metrics.watch("aiproxy_texts_forgotten_total", forgotten, lambda: retention.forgotten)


def _spool(settings: Settings, cipher: Cipher | None) -> Spool:
    return Spool(
        settings.data_directory / "spool",
        database=databases.name(settings.database_url),
        beside=not databases.is_on_a_server(settings.database_url),
        max_bytes=settings.recorder.spool_max_bytes,
        cipher=cipher,
    )


def _seen_keys(settings: Settings) -> SeenKeys:
    file = SeenKeysFile(settings.data_directory, database=databases.name(settings.database_url))
    return SeenKeys(file.load, file.save)


def _settle_memory() -> None:
    """What has been loaded stays: the garbage collector need not walk through it again and again.

    Measured: a third of the CPU of a call went into full collections over modules and classes. The second collection
    tells the collector how little is left, or it would wait with the next full one until a quarter of all that has
    gathered again.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
    gc.set_threshold(50_000, 10, 5)
