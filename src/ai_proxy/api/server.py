"""The server process: uvicorn with our protocol, and a shutdown that always ends in order."""

import asyncio
import os
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ai_proxy.api.protocol import Protocol
from ai_proxy.core.config import ServerSettings

_TICKS_A_SECOND = 10
_LAST_WORDS = 1.0  # seconds for the ends of answers after a second signal


class Server(uvicorn.Server):
    """A first SIGTERM or SIGINT lets running calls finish within the limit; a second one ends them now."""

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.enforce(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals are not raised again at the end, as uvicorn does it: a stop that was asked for exits with 0."""
        if self.should_exit:
            asyncio.get_running_loop().call_soon_threadsafe(self._end_calls)
        self.should_exit = True

    def _end_calls(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._cut_connections)

    def _cut_connections(self) -> None:
        """Those that are left belong to clients that do not read."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Take the address. Exits with a clear line if it cannot be had."""
    try:
        if ":" in host:
            return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=host == "::")
        return socket.create_server((host, port))
    except OSError as error:
        message = f"ai-proxy: cannot listen on {host}, port {port}: {_reason(error)}. Set HOST and PORT to another."
        raise SystemExit(message) from None


def serve(app: ASGIApp, listener: socket.socket, limits: ServerSettings) -> None:
    """Serve until a signal; returns when every record is written."""
    protocol = type("LimitedProtocol", (Protocol,), {"limits": limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=limits.shutdown_timeout,
    )
    Server(config).run(sockets=[listener])


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error.strerror).lower()
