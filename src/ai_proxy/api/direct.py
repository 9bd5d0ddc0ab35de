"""The calls' own way: from the middleware to the endpoint by one look-up, past the framework's router."""

from collections.abc import Iterable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ai_proxy.api.error_handlers import on_gateway_error
from ai_proxy.core.exceptions import GatewayError


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request as it is and gives the response. Its path has no parameters.

    FastAPI's own way (a Pydantic body, dependencies, a response model) costs 250 µs of CPU more a call, as much as the
    whole call may cost; finding the route and wrapping the endpoint another 20. So endpoints on the path of a call
    read the request themselves, and say what it is like in `openapi.py`.
    """


class Direct:
    """Serves `DirectRoute`s; all else goes on to the framework, which also describes them.

    Only there does anybody ask where a request comes from, which `trusted_proxies` may tell.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], *, trusted_proxies: str) -> None:
        behind_proxies: Any = ProxyHeadersMiddleware  # its types are those of uvicorn
        self.app: ASGIApp = behind_proxies(app, trusted_proxies) if trusted_proxies else app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, DirectRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except GatewayError as error:
            response = await on_gateway_error(request, error)
        await response(scope, receive, send)
