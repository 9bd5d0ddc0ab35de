"""A bug of ours, as a client and an operator see it."""

import sys

import httpx2
import pytest

from tests.service import Service

BROKEN = """
import uvicorn
from fastapi.responses import StreamingResponse
from ai_proxy.app import create_app

app = create_app()

@app.get("/broken")
async def broken() -> None:
    raise ZeroDivisionError("a detail that is nobody's business")

@app.get("/breaks-off")
async def breaks_off() -> StreamingResponse:
    async def words():
        yield "one"
        raise ZeroDivisionError("in the middle")

    return StreamingResponse(words())

uvicorn.run(app, port={port}, log_config=None, access_log=False)
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A server with an endpoint that always fails."""
    service = Service(tmp_path_factory.mktemp("broken"))
    service.command = [sys.executable, "-c", BROKEN.format(port=service.port)]
    yield service.start()
    service.stop()
    service.client.close()


def test_the_client_gets_the_usual_envelope_and_no_detail(broken):
    response = broken.client.get("/broken")

    error = response.json()["error"]
    assert response.status_code == 500
    assert (error["code"], error["type"], error["source"]) == ("internal_error", "api_error", "gateway")
    assert error["request_id"] == response.headers["x-request-id"]
    assert "nobody's business" not in response.text


def test_the_log_has_the_traceback_under_the_same_id(broken):
    request_id = broken.client.get("/broken").headers["x-request-id"]

    lines = broken.eventually(
        lambda: len(lines := [line for line in broken.log() if line["request_id"] == request_id]) >= 2 and lines
    )
    by_message = {line["message"]: line for line in lines}
    assert by_message["internal error"]["exception"].endswith("ZeroDivisionError: a detail that is nobody's business")
    assert (by_message["request"]["status"], by_message["request"]["level"]) == (500, "error")


def test_the_server_goes_on(broken):
    broken.client.get("/broken")

    assert broken.ask().status_code == 200
    metrics = broken.client.get("/metrics").text
    assert 'aiproxy_requests_total{method="GET",route="/broken",status="500"}' in metrics
    assert "aiproxy_inflight_requests 1.0" in metrics


def test_a_bug_in_the_middle_of_a_stream_is_no_success(broken):
    with pytest.raises(httpx2.RemoteProtocolError):
        broken.client.get("/breaks-off")

    line = broken.eventually(lambda: next((line for line in broken.log() if line.get("path") == "/breaks-off"), None))
    metrics = broken.client.get("/metrics").text
    assert (line["status"], line["level"], line["error"]) == (500, "error", "internal_error")
    assert 'aiproxy_requests_total{method="GET",route="/breaks-off",status="500"}' in metrics
    assert 'aiproxy_streams_aborted_total{by="gateway"} 1.0' in metrics
