"""Every endpoint, in one list. A new endpoint is a line here."""

from ai_proxy.api.endpoints import ask, health, history, metrics, streaming

ROUTERS = (
    ask.router,
    streaming.router,
    history.router,
    health.router,
    metrics.router,
)
