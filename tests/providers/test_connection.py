"""One connection to a provider, over a pair of sockets: answers cut anywhere, and ends that come too early."""

import asyncio
import contextlib
import gc
import socket
import ssl
import time
import weakref

import pytest
from yarl import URL

from ai_proxy.providers.connection import BrokenOff, Connection, ConnectionClosed, Expired, NotHttp
from ai_proxy.providers.http import head_of
from ai_proxy.providers.pool import Origin, Pool, Unresolved
from tests.faults.certificates import Authority

pytestmark = pytest.mark.anyio

WORDS = b"Paris is the capital of France."
OF_A_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\nX-A: b\r\n\r\n" + WORDS
IN_CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nParis\r\n1a\r\n is the capital of France.\r\n0\r\n\r\n"
)
TO_THE_END = b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n" + WORDS
LONG = 2 * 2**20  # more than any buffer on the way
FRAMED = [OF_A_LENGTH, IN_CHUNKS]


@pytest.fixture
def anyio_backend():
    """The service's own loop, whose TLS is not that of asyncio."""
    return "asyncio", {"use_uvloop": True}


@contextlib.asynccontextmanager
async def connected():
    """A connection that has sent a request, and the provider's end of it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, sock=ours)
    await ask(connection, theirs)
    try:
        yield connection, theirs
    finally:
        connection.close()
        theirs.close()


async def ask(connection: Connection, theirs: socket.socket) -> None:
    connection.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert await asyncio.get_running_loop().sock_recv(theirs, 1000)


async def send(theirs: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(theirs, data)


async def arrival(connection: Connection, within: float = 30.0) -> None:
    await connection.arrival(asyncio.get_running_loop().time() + within)


async def read(connection: Connection) -> bytes:
    """The whole body. Raises what `arrival` does."""
    body = b""
    while not connection.status:
        await arrival(connection)
    while True:
        body += connection.take()
        if connection.whole:
            return body + connection.take()
        await arrival(connection)


@pytest.mark.parametrize("answer", FRAMED, ids=["length", "chunks"])
async def test_an_answer_may_be_cut_anywhere(answer):
    async with connected() as (connection, theirs):
        for cut in range(1, len(answer)):
            await send(theirs, answer[:cut])
            reading = asyncio.create_task(read(connection))
            await asyncio.sleep(0.001)
            assert not reading.done()
            await send(theirs, answer[cut:])

            assert await reading == WORDS
            assert connection.is_reusable
            await ask(connection, theirs)


@pytest.mark.parametrize("answer", FRAMED, ids=["length", "chunks"])
async def test_an_answer_that_ends_too_early_is_told_from_a_whole_one(answer):
    begun = answer.index(b"\r\n\r\n") + 4
    for cut in range(len(answer)):
        async with connected() as (connection, theirs):
            if cut:
                await send(theirs, answer[:cut])
            theirs.close()

            with pytest.raises(ConnectionClosed if cut < begun else BrokenOff) as caught:
                await read(connection)

        if cut < begun:
            assert caught.value.begun == (cut > 0)


async def test_without_a_length_an_answer_ends_with_its_connection():
    async with connected() as (connection, theirs):
        await send(theirs, TO_THE_END)
        theirs.close()

        assert await read(connection) == WORDS
        assert not connection.is_reusable


async def test_what_came_before_a_connection_broke_is_not_lost():
    async with connected() as (connection, theirs):
        await send(theirs, OF_A_LENGTH[:-5])
        theirs.close()
        await asyncio.sleep(0.05)

        assert connection.take() == WORDS[:-5]
        with pytest.raises(BrokenOff):
            await arrival(connection)


async def test_each_wait_ends_at_a_time_of_its_own():
    async with connected() as (connection, theirs):
        for within in (0.2, 0.05, 0.1):
            began = time.monotonic()
            with pytest.raises(Expired):
                await arrival(connection, within)
            assert within - 0.01 < time.monotonic() - began < within + 1

        asyncio.get_running_loop().call_later(0.2, theirs.send, OF_A_LENGTH)
        assert await read(connection) == WORDS  # and an earlier one ends no later one


async def test_who_is_cancelled_while_waiting_is_cancelled():
    async with connected() as (connection, theirs):
        waiting = asyncio.create_task(arrival(connection, 0.1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        await asyncio.sleep(0.15)  # past the time of the wait that was given up
        await send(theirs, OF_A_LENGTH)
        assert await read(connection) == WORDS


@pytest.mark.parametrize("status", [100, 103, 104, 199])
async def test_interim_answers_are_passed_over(status):
    async with connected() as (connection, theirs):
        await send(theirs, b"HTTP/1.1 %d X\r\nlink: </a>\r\n\r\n" % status)
        await asyncio.sleep(0.01)
        await send(theirs, OF_A_LENGTH)

        assert await read(connection) == WORDS
        assert connection.header(b"link") is None


async def test_what_small_servers_write_is_read():
    async with connected() as (connection, theirs):
        await send(theirs, b"HTTP/1.1 200 OK\nX-A: b  \nTransfer-Encoding: chunked\n\n5 \r\nParis\r\n0\r\n\r\n")

        assert await read(connection) == b"Paris"
        assert connection.header(b"x-a") == "b"


async def test_trailers_are_neither_headers_nor_those_of_the_next_answer():
    async with connected() as (connection, theirs):
        await send(theirs, IN_CHUNKS[:-2] + b"retry-after: 99\r\n\r\n")
        assert await read(connection) == WORDS
        assert connection.header(b"retry-after") is None

        await ask(connection, theirs)
        await send(theirs, OF_A_LENGTH)
        assert await read(connection) == WORDS
        assert connection.header(b"retry-after") is None
        assert connection.header(b"x-a") == "b"


@pytest.mark.parametrize("unasked", [OF_A_LENGTH, b"rubbish"], ids=["answer", "rubbish"])
async def test_who_sends_what_nobody_asked_for_is_asked_no_more(unasked):
    async with connected() as (connection, theirs):
        await send(theirs, OF_A_LENGTH + unasked)

        assert await read(connection) == WORDS
        await asyncio.sleep(0.05)

        assert not connection.is_reusable


@pytest.mark.parametrize(
    "rubbish",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 000 X\r\n\r\n",
    ],
    ids=["another protocol", "endless headers", "two lengths", "endless interim answers", "no status"],
)
async def test_what_is_no_answer_is_refused_and_the_connection_closed(rubbish):
    async with connected() as (connection, theirs):
        with contextlib.suppress(ConnectionError):
            await send(theirs, rubbish)

        with pytest.raises(NotHttp):
            await read(connection)

        assert not connection.is_open


async def test_an_endless_trailer_is_cut_off():
    async with connected() as (connection, theirs):
        await send(theirs, IN_CHUNKS[:-2] + b"x-a: ")
        with contextlib.suppress(ConnectionError):
            await send(theirs, b"b" * 2**20)

        with pytest.raises(BrokenOff):
            await read(connection)

        assert not connection.is_open


async def test_a_failure_keeps_nothing_alive():
    async def fail() -> weakref.ref:
        async with connected() as (connection, theirs):
            await send(theirs, OF_A_LENGTH[:-5])
            theirs.close()
            with contextlib.suppress(BrokenOff):
                await read(connection)
            return weakref.ref(connection)

    gc.disable()
    try:
        failed = await fail()
        await asyncio.sleep(0.01)
        assert failed() is None
    finally:
        gc.enable()


@contextlib.asynccontextmanager
async def connected_by_tls(directory, serve):
    """A connection that has sent nothing yet, to a provider that does as `serve` does."""
    authority = Authority(directory)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(authority.issue("provider"))
    ours = ssl.create_default_context(cafile=str(authority.file))
    serving = []

    async def accept(reader, writer):
        serving.append(asyncio.current_task())
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=theirs)
    loop = asyncio.get_running_loop()
    port = server.sockets[0].getsockname()[1]
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port, ssl=ours)
    try:
        yield connection
    finally:
        connection.close()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("pause", [0, 0.01], ids=["at once", "slowly"])
@pytest.mark.parametrize("length", [b"", b"content-length: %d\r\n" % LONG], ids=["to the end", "length"])
async def test_by_tls_nothing_is_lost_of_an_answer_after_which_the_provider_closes(tmp_path, length, pause):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n%s\r\n" % length + bytes(LONG))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    for _ in range(3):
        async with connected_by_tls(tmp_path, serve) as connection:
            connection.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            size = 0
            while not connection.whole or size < LONG:
                await arrival(connection)
                await asyncio.sleep(pause)
                size += len(connection.take())

        assert size == LONG


async def test_by_tls_a_connection_with_a_request_that_is_not_sent_yet_is_not_used_again(tmp_path):
    async def serve(reader, writer):
        await reader.readexactly(2**14)
        writer.write(OF_A_LENGTH)
        await asyncio.sleep(5)

    async with connected_by_tls(tmp_path, serve) as connection:
        connection.send(b"POST / HTTP/1.1\r\nhost: h\r\n\r\n", bytes(4 * LONG))

        assert await read(connection) == WORDS
        assert not connection.is_reusable


async def test_what_nobody_reads_is_left_to_the_provider():
    size = 8 * 2**20
    async with connected() as (connection, theirs):
        await send(theirs, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(send(theirs, bytes(size)))
        await asyncio.sleep(0.2)

        assert not sending.done()
        held = len(connection.take())
        assert held < 2**20
        assert held + len(await read(connection)) == size
        assert connection.is_reusable
        await sending


async def test_a_long_request_goes_out_as_the_provider_takes_it():
    body = bytes(4 * 2**20)
    async with connected() as (connection, theirs):
        connection.send(b"POST / HTTP/1.1\r\n\r\n", body)
        await send(theirs, OF_A_LENGTH)
        assert await read(connection) == WORDS

        assert not connection.is_reusable  # the answer came before the request had gone


def test_a_head_says_where_it_goes_and_how_long_the_body_is():
    url = URL("https://[::1]:8443/v1/a%20b?c=d", encoded=True)

    assert head_of("POST", url, {"x-a": "é"}, b"12345") == (
        "POST /v1/a%20b?c=d HTTP/1.1\r\nhost: [::1]:8443\r\nx-a: é\r\ncontent-length: 5\r\n\r\n".encode()
    )
    assert head_of("GET", URL("http://h/"), {}, None) == b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


def test_a_password_in_an_address_becomes_a_header():
    head = head_of("GET", URL("https://me:p%40ss@h/x"), {}, None)

    assert head == b"GET /x HTTP/1.1\r\nhost: h\r\nauthorization: Basic bWU6cEBzcw==\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_no_header_becomes_two(value):
    with pytest.raises(ValueError, match="line break"):
        head_of("GET", URL("http://h/"), {"x-a": value, "x-b": ""}, None)


async def test_a_name_that_many_ask_for_is_looked_up_once_and_anew_after_a_failure():
    pool = Pool()
    nowhere = Origin("http", "nowhere.invalid", 80)

    failures = await asyncio.gather(*[pool.connect(nowhere) for _ in range(5)], return_exceptions=True)
    looking = [task for task in asyncio.all_tasks() if task.get_name() == "dns"]

    assert [type(failure) for failure in failures] == [Unresolved] * 5
    assert len({id(failure) for failure in failures}) == 5
    assert not looking
    with pytest.raises(Unresolved):
        await pool.connect(nowhere)
    pool.close()


@contextlib.asynccontextmanager
async def provider():
    """One that answers each request, where it is to be found, and its open connections."""
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OF_A_LENGTH)
        writers.remove(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Origin("http", "localhost", server.sockets[0].getsockname()[1]), writers
    finally:
        server.close()


async def use(connection: Connection) -> Connection:
    connection.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert await read(connection) == WORDS
    return connection


async def test_of_several_connections_the_one_that_was_used_last_is_used_again():
    async with provider() as (origin, _):
        pool = Pool()
        first, second = await use(await pool.connect(origin)), await use(await pool.connect(origin))
        pool.give_back(origin, first)
        pool.give_back(origin, second)

        assert pool.idle(origin) is second
        assert pool.idle(origin) is first
        assert pool.idle(origin) is None
        first.close()
        second.close()
        pool.close()


async def test_a_connection_that_nobody_uses_is_closed_after_a_while():
    async with provider() as (origin, open_ones):
        pool = Pool(keep=0.2)
        pool.give_back(origin, await use(await pool.connect(origin)))
        await asyncio.sleep(0.1)
        pool.give_back(origin, await use(await pool.connect(origin)))
        assert len(open_ones) == 2

        await asyncio.sleep(0.15)
        assert len(open_ones) == 1
        await asyncio.sleep(0.2)
        assert open_ones == []
        assert pool.idle(origin) is None
        pool.close()


async def test_the_end_of_the_pool_is_that_of_its_connections():
    async with provider() as (origin, open_ones):
        pool = Pool()
        idle, used = await use(await pool.connect(origin)), await use(await pool.connect(origin))
        pool.give_back(origin, idle)

        pool.close()
        pool.give_back(origin, used)
        await asyncio.sleep(0.05)

        assert open_ones == []
