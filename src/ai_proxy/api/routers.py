"""Every endpoint, in one list. A new endpoint is a line here."""

from ai_proxy.api.endpoints import (
    ask,
    chat,
    completions,
    embeddings,
    health,
    history,
    messages,
    metrics,
    models,
    moderations,
    responses,
    streaming,
)

ROUTERS = (
    chat.router,
    ask.router,
    streaming.router,
    responses.router,
    responses.stored,
    messages.router,
    completions.router,
    embeddings.router,
    moderations.router,
    models.router,
    history.router,
    health.router,
    metrics.router,
)
