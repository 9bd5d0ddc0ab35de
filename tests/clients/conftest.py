"""What the client tests share: where the server is, what it counted, and how a snippet of docs/clients.md is run.

The clients' environments have pytest and the client, and nothing of ours.
"""

import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config):
    """The main run has none of the clients."""
    return True if config.rootpath != HERE else None


@pytest.fixture(scope="session")
def url() -> str:
    return os.environ["AI_PROXY_URL"]


@pytest.fixture(scope="session")
def key() -> str:
    return os.environ["AI_PROXY_API_KEY"]


@pytest.fixture
def answered(url):
    """How many requests on a route were answered with a status, since the test began."""

    def count(route: str, status: int) -> int:
        with urllib.request.urlopen(f"{url}/metrics") as response:  # noqa: S310
            text = response.read().decode()
        pattern = rf'^aiproxy_requests_total{{method="POST",route="{re.escape(route)}",status="{status}"}} (\S+)$'
        found = re.search(pattern, text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    before = {}

    class Answered:
        def watch(self, route: str, status: int) -> None:
            before[route, status] = count(route, status)

        def times(self, route: str, status: int) -> int:
            return count(route, status) - before[route, status]

    return Answered()


@pytest.fixture
def run(tmp_path):
    """Runs a program in an empty directory and gives what it printed."""

    def run(*command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            check=False,
            cwd=tmp_path,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def run_snippets(run, tmp_path, url, key):
    """Runs the snippets of a section of docs/clients.md, one after another, and gives what each printed."""

    import snippets  # noqa: PLC0415 the main run, which reads this file too, has no such module

    def run_snippets(section: str, **environment: str) -> list[str]:
        commands = [snippets.command(*block, tmp_path) for block in snippets.blocks(section, url, key)]
        return [run(*command, PATH=snippets.path(), **environment) for command in commands if command]

    return run_snippets
