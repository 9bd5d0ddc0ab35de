"""LiteLLM's proxy, from PyPI, in a virtual environment of its own: tuned as its documentation says, without a database.

So it does less than AI Proxy does: one key from its configuration, no history, and its log is off.
Source: https://docs.litellm.ai/docs/proxy/prod
"""

import subprocess
import sys
from pathlib import Path

from bench.processes import BenchError, Process, free_port
from bench.targets import Start, Target, chat, first_answers

VERSION = "1.106.2"
_ENVIRONMENT = Path(__file__).parent.parent / ".venv-litellm"
_KEY = "sk-bench-0123456789"
_INSTALL_LIMIT, _START_LIMIT = 900, 180  # seconds
_STREAMS = 4  # at once: it is given no more chunks than it can take one by one
_CONFIG = """
model_list:
  - {model_name: whole, litellm_params: {model: openai/fake, api_base: "http://127.0.0.1:%d/v1", api_key: sk-bench}}
  - {model_name: streams, litellm_params: {model: openai/fake, api_base: "http://127.0.0.1:%d/v1", api_key: sk-bench}}
general_settings: {master_key: %s}
litellm_settings: {set_verbose: false, request_timeout: 600, num_retries: 0, telemetry: false}
"""
_SETTINGS = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
}


def install() -> None:
    """Once. Raises `BenchError`."""
    if _installed() == VERSION:
        return
    print(f"Installing LiteLLM {VERSION} into {_ENVIRONMENT.name} …", file=sys.stderr)
    pip = [str(_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", f"litellm[proxy]=={VERSION}"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True, timeout=120)
        subprocess.run(pip, check=True, timeout=_INSTALL_LIMIT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        message = f"LiteLLM {VERSION} could not be installed: {error}"
        raise BenchError(message) from None


def start(directory: Path, upstreams: tuple[int, int], core: int | None) -> tuple[Target, Start]:
    directory.mkdir()
    port = free_port()
    (directory / "config.yaml").write_text(_CONFIG % (*upstreams, _KEY))
    whole = chat(port, model="whole", key=_KEY, stream=False)
    stream = chat(port, model="streams", key=_KEY, stream=True)
    command = [str(_ENVIRONMENT / "bin" / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    process = Process(
        [*command, "--port", str(port), "--num_workers", "1"], directory=directory, core=core, settings=_SETTINGS
    )
    return Target(f"LiteLLM {VERSION}", process, whole, stream, streams=_STREAMS), first_answers(
        process, "/health/liveliness", whole, seconds=_START_LIMIT
    )


def _installed() -> str | None:
    code = "import importlib.metadata as metadata; print(metadata.version('litellm'), end='')"
    command = [str(_ENVIRONMENT / "bin" / "python"), "-c", code]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
