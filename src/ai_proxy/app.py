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
from ai_proxy.core import logging
from ai_proxy.core.config import Settings, load_settings, read_settings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import KeptAnswer, Turn
from ai_proxy.gateway.alerts import Alerts
from ai_proxy.gateway.auth import KeyRing
from ai_proxy.gateway.idempotency import Idempotency
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.routes import Routes
from ai_proxy.providers.http import Http
from ai_proxy.services import audit, setup
from ai_proxy.services.accounts import Accounts
from ai_proxy.services.issuer import Issuer
from ai_proxy.services.keys import Keys
from ai_proxy.services.oidc import Oidc
from ai_proxy.storage import history, idempotency, keys, records, usage
from ai_proxy.storage.engine import Database


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
    app.middleware_stack = Requests(Direct(app.build_middleware_stack(), routes), metrics)
    return app


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
    """Build every part, bottom layer first; close them in reverse."""
    async with (
        Database(settings.database_url, directory=settings.data_directory) as database,
        Http() as http,
        Alerts(http, settings.alerts) as alerts,
        Recorder(partial(records.add, database), settings.recorder) as recorder,
    ):
        server_secret = await setup.prepare(settings, database)

        async def earlier(key_id: str, conversation_id: str) -> Sequence[Turn]:
            return await history.earlier(database, key_id, conversation_id, budget=settings.conversation_budget)

        async def kept(key_id: str, key: str) -> KeptAnswer | None:
            return await idempotency.find(database, key_id, key, now=time.time_ns() // 1000)

        limiter = Limiter(MemoryCounters(), settings.budgets, metrics, alert=alerts.tell)
        now = time.time_ns() // 1000
        limiter.load(await usage.spending(database, now), now)
        gateway = Gateway(recorder, earlier, metrics, settings.cache, limiter)
        accounts = Accounts(database, server_secret, settings.sessions)
        oidc = None
        if settings.oidc.issuer is not None:
            issuer = Issuer(http, settings.oidc)
            oidc = Oidc(issuer, accounts, database, secret=server_secret, settings=settings.oidc)
        async with Routes(gateway, http) as routes, accounts:
            await routes.use(settings)
            again = partial(read_settings, host=settings.host, port=settings.port)

            async def reload() -> None:
                await audit.note_reload(database, await routes.reload(again))

            with on_hangup(reload):
                _watch(metrics, recorder, alerts)
                _settle_memory()
                yield State(
                    gateway=gateway,
                    idempotency=Idempotency(kept),
                    keyring=KeyRing(partial(keys.find, database), secret=server_secret, given=settings.given_key),
                    limiter=limiter,
                    recorder=recorder,
                    database=database,
                    accounts=accounts,
                    keys=Keys(database, server_secret),
                    oidc=oidc,
                    metrics=metrics,
                    server=settings.server,
                )


def _watch(metrics: Metrics, recorder: Recorder, alerts: Alerts) -> None:
    metrics.watch("aiproxy_records_waiting", "Calls not yet in the history.", lambda: recorder.held)
    metrics.watch("aiproxy_records_lost_total", "Calls that will never be in the history.", lambda: recorder.lost)
    metrics.watch("aiproxy_alerts_dropped_total", "Alerts of budgets that nobody took.", lambda: alerts.dropped)


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
