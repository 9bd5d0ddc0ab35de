"""A real server process, as an operator would start it, and how tests talk to it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

KEY = "the-tests-own-key-0123456789"
AI_PROXY = str(Path(sys.executable).parent / "ai-proxy")
_RELOADED = re.compile(rb".*reload: .*\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**settings) -> dict[str, str]:
    """What a child process sees: the machine's basics, the measurement of coverage, and `settings`."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"} or name[:5] == "COVER"}
    return {**kept, **{name: str(value) for name, value in settings.items()}}


class Service:
    """`ai-proxy serve` in a directory of its own. `settings` are environment variables."""

    def __init__(self, directory: Path, *, command: list[str] | None = None, **settings) -> None:
        self.directory = directory
        self.process: subprocess.Popen | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"PORT": self.port, "AI_PROXY_API_KEY": KEY, "AI_PROXY_MOCK__LATENCY": 0, **settings}
        self.command = [part.format(port=self.port) for part in command or [AI_PROXY, "serve"]]
        self.client = httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30)

    def start(self, seconds: float = 60) -> "Service":
        directory = self.directory
        with (directory / "stdout").open("ab") as stdout, (directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                self.command, cwd=directory, env=environment(**self.settings), stdout=stdout, stderr=stderr
            )
        self.wait_until_it_answers(seconds)
        return self

    def configure(self, **settings) -> "Service":
        """Write `ai-proxy.toml`. A running server reads it at once, and then knows nothing of any provider's health."""
        (self.directory / "ai-proxy.toml").write_text(
            "".join(f"{name} = {_toml(settings[name])}\n" for name in settings)
        )
        if self.process is not None:
            log = self.directory / "stdout"
            before = log.stat().st_size
            self.process.send_signal(signal.SIGHUP)
            told = self.eventually(lambda: _RELOADED.findall(log.read_bytes()[before:]), pause=0.002)
            assert b'"problems"' not in told[0]
        return self

    def wait_until_it_answers(self, seconds: float = 60) -> None:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                break
            try:
                httpx2.get(f"{self.url}/livez")
            except httpx2.TransportError:
                time.sleep(0.02)
            else:
                return
        message = f"the server did not start:\n{self.stderr()}\n{(self.directory / 'stdout').read_text()}"
        raise AssertionError(message)

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal and wait. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(seconds)

    def ask(self, question: str = "ping", **fields) -> httpx2.Response:
        return self.client.post("/api/ask", json={"question": question, **fields})

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Another `ai-proxy …` process, with the same settings and in the same directory."""
        return subprocess.run(
            [AI_PROXY, *arguments],
            check=False,
            cwd=self.directory,
            env=environment(**self.settings),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def new_key(self, name: str) -> str:
        done = self.run("keys", "create", name)
        return re.search(r"^key: (\S+)$", done.stdout, re.MULTILINE)[1]

    def client_with(self, key: str) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30)

    def history(self, **query) -> list[dict]:
        return self.client.get("/api/history", params=query).raise_for_status().json()["items"]

    def eventually(self, condition, seconds: float = 5, *, pause: float = 0.02):
        """The first true value of `condition()`."""
        give_up = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < give_up, "it did not come true"
            time.sleep(pause)
        return value

    def log(self) -> list[dict]:
        """What it wrote to STDOUT, line by line: every line must be a JSON object."""
        return [json.loads(line) for line in (self.directory / "stdout").read_text().splitlines()]

    def request_log(self, path: str) -> list[dict]:
        return [line for line in self.log() if line["message"] == "request" and line["path"] == path]

    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def raw(self, data: bytes = b"", *, timeout: float = 10) -> socket.socket:
        """A bare connection, on which `data` has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.sendall(data)
        return connection


def _toml(value) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)} = {_toml(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def http_request(body: bytes, *, path: str = "/api/ask", headers: str = "") -> bytes:
    """A POST request as bytes, to be sent as a test likes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes (or resets)."""
    received = b""
    try:
        while block := connection.recv(65_536):
            received += block
    except ConnectionResetError:
        pass
    return received


def events(text: str) -> list[tuple[str, dict]]:
    """The events of a stream: name and data."""
    return [(name, json.loads(data)) for name, data in frames(text)]


def frames(text: str) -> list[tuple[str, str]]:
    """The same, whatever the data is. A nameless event has the name ""."""
    found = []
    for frame in text.split("\n\n"):
        fields = [line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":")]
        data = [value for name, value in fields if name == "data"]
        if data:
            found.append((dict(fields).get("event", ""), "\n".join(data)))
    return found
