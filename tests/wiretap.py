"""Between a client of PostgreSQL and its server: it can lose the answer to a commit, or lead to another server."""

import asyncio
import threading
from pathlib import Path

_BLOCK = 65_536


class Wiretap:
    """Use as a context manager. It listens on this machine, and passes all on to the socket of a server in a file.

    The connection over which a transaction with `lost` in it goes is cut when it is committed, before the client hears
    of it; that happens once. `cuts` counts it. New connections go to the server of `directory`, which may be changed.
    """

    def __init__(self, directory: Path) -> None:
        self.lost: bytes | None = None
        self.cuts = 0
        self.directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Wiretap":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def url(self, url: str) -> str:
        """Of the same database, through here. `url` is that of a server in a directory."""
        return f"{url.partition('@')[0]}@127.0.0.1:{self._port}{url.partition('@')[2].partition('?')[0]}"

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        listener.close()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_unix_connection(str(self.directory / ".s.PGSQL.5432"))
        except OSError:
            writer.transport.abort()
            return
        is_cut = asyncio.Event()
        back = asyncio.create_task(self._pass_back(answers, writer, is_cut))
        try:
            await self._pass_on(reader, requests, is_cut)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            requests.close()
            await asyncio.wait([back], timeout=1)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_cut: asyncio.Event) -> None:
        seen = b""
        while block := await reader.read(_BLOCK):
            seen += block
            if b"COMMIT" in block:
                if self.lost is not None and self.lost in seen:
                    self.lost = None
                    is_cut.set()
                seen = b""
            writer.write(block)
            await writer.drain()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_cut: asyncio.Event
    ) -> None:
        try:
            while (block := await reader.read(_BLOCK)) and not is_cut.is_set():
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            pass
        self.cuts += is_cut.is_set()
        writer.transport.abort()
