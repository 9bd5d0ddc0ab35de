"""The server process: uvicorn with our protocol, and a shutdown that always ends in order."""

import asyncio
import contextlib
import os
import resource
import socket
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp

from ai_proxy.api.protocol import Protocol
from ai_proxy.core.groups import ServerSettings

log = structlog.get_logger()

_TICKS_A_SECOND = 10
_LAST_WORDS = 1.0  # seconds for the ends of answers after a second signal
_OTHER_FILES = 100  # descriptors beside connections: the database, its readers, the log
_CANCELS, _CANCEL_TIME = 5, 0.2  # how often a task is told to end, and seconds that it gets each time


class Server(uvicorn.Server):
    """A first SIGTERM or SIGINT lets running calls finish within the limit; a second one ends them now."""

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.enforce(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await end_tasks()

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


def serve(app: ASGIApp, listener: socket.socket, limits: ServerSettings, *, calls: int) -> None:
    """Serve until a signal; returns when every record is written. `calls` to providers may run at one time."""
    raise_descriptor_limit(limits.max_connections + min(limits.max_connections, calls))
    protocol = type("LimitedProtocol", (Protocol,), {"limits": limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # that is done for those requests alone which need it: see Direct
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=limits.shutdown_timeout,
    )
    Server(config).run(sockets=[listener])


def raise_descriptor_limit(connections: int) -> None:
    """Let the process open as many files as the system allows. Warns if that is too few for so many connections.

    The usual 1024 is for programs that call select(), which can take no more (systemd.exec(5), LimitNOFILE).
    """
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = max(soft, needed) if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft < needed:
        log.warning("server: too few files may be open for the connections allowed", limit=soft, needed=needed)


async def end_tasks() -> None:
    """End what is left at the very end: it hangs in a driver whose disk does not answer.

    The loop cancels such tasks once before it closes, and would wait for ever for one whose clean-up hangs as well.
    """
    cancels = 0
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        if cancels == _CANCELS:
            log.error("server: tasks that do not end are left alone", tasks=len(left))
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCEL_TIME)
        cancels += 1


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error.strerror).lower()
