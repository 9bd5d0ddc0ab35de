"""SIGHUP: the settings file is read again, while the server goes on."""

import asyncio
import json
import signal
import threading

import pytest

from tests.service import events
from tests.upstream import Upstream, completion, delta, error, finish, status, stream, usage, words

CHAT = "/v1/chat/completions"
PING = [{"role": "user", "content": "ping"}]


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def service(start, upstream, tmp_path):
    write(tmp_path, table(upstream), "[models.fast]", 'targets = ["x/small"]')
    return start(tmp_path)


def table(upstream: Upstream, name: str = "x") -> str:
    return f'[providers.{name}]\nbase_url = "{upstream.url}"\nmodels = ["small", "big"]'


def write(directory, *lines: str) -> None:
    (directory / "ai-proxy.toml").write_text("\n".join(lines))


def hang_up(service) -> dict:
    """Send the signal. What the log says of it."""
    before = len(reloads(service))
    service.process.send_signal(signal.SIGHUP)
    return service.eventually(lambda: reloads(service)[before:])[0]


def reloads(service) -> list[dict]:
    return [line for line in service.log() if line["message"].startswith("reload:")]


def models(service) -> list[str]:
    return [model["id"] for model in service.client.get("/v1/models").json()["data"]]


def ask(service, model: str, **fields):
    return service.client.post(CHAT, json={"model": model, "messages": PING, **fields})


def test_a_new_model_can_be_asked(service, upstream):
    before = ask(service, "quick").status_code
    write(service.directory, table(upstream), "[models.fast]", 'targets = ["x/big"]', 'aliases = ["quick"]')

    line = hang_up(service)

    assert (line["level"], before) == ("info", 404)
    assert models(service) == ["fast", "quick", "small", "big"]
    assert ask(service, "quick").status_code == 200
    assert upstream.connections[-1].json["model"] == "big"


def test_calls_go_to_a_new_address_and_with_a_new_key(service, upstream):
    with Upstream() as another:
        another.handler = completion("from another")
        write(service.directory, table(another), 'api_keys = ["new-key-0123456789"]')

        hang_up(service)
        answer = ask(service, "small").json()

    assert answer["choices"][0]["message"]["content"] == "from another"
    assert another.connections[-1].header("authorization") == "Bearer new-key-0123456789"
    assert upstream.connections == []


def test_a_new_provider_has_the_prices_of_its_list(start, upstream, tmp_path):
    openai, groq = (
        f'[providers.{name}]\nbase_url = "{upstream.url}"\napi_keys = ["key-0123456789"]\nmodels = ["{model}"]'
        for name, model in (("openai", "gpt-4o"), ("groq", "openai/gpt-oss-120b"))
    )
    million = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    upstream.handler = completion(usage=million)
    write(tmp_path, openai)
    service = start(tmp_path)

    costs = [cost_of(service, "openai/gpt-4o")]
    for lines in ([openai, groq], [groq], [openai]):
        write(service.directory, *lines)
        hang_up(service)
        costs += [cost_of(service, "openai/gpt-4o"), cost_of(service, "groq/openai/gpt-oss-120b")]

    assert costs == ["2.50", "2.50", "0.15", None, "0.15", "2.50", None]


def cost_of(service, model: str) -> str | None:
    """In dollars, as the answer says it. None when the model is not to be had."""
    return ask(service, model).headers.get("x-ai-proxy-cost-usd")


@pytest.mark.parametrize("streams", [False, True])
def test_a_call_that_runs_ends_as_it_began(service, upstream, streams):
    parts = [delta("po"), 0.6, delta("ng"), finish(), usage()]
    upstream.handler = stream(*parts) if streams else slowly
    responses = []
    call = threading.Thread(target=lambda: responses.append(ask(service, "fast", stream=streams)))
    call.start()
    service.eventually(lambda: upstream.connections)
    write(service.directory, "mock_mode = true")

    hang_up(service)
    left = models(service)
    running = call.is_alive()
    call.join()

    assert (left, running) == (["mock"], True)
    assert responses[0].status_code == 200
    assert all(text in responses[0].text for text in (("po", "ng") if streams else ("pong",)))
    (item,) = service.history()
    assert (item["status"], item["answer"], item["provider"]) == ("completed", "pong", "x")
    assert ask(service, "fast").headers["x-ai-proxy-provider"] == "mock"


async def slowly(connection) -> None:
    await asyncio.sleep(0.6)
    await completion()(connection)


BROKEN = {
    "no toml": (["[models.fast", "targets = []"], ":1: "),
    "a word that is none of ours": (["", "", "nonsense = 1"], ":3: nonsense"),
    "a provider that there is not": (["[models.fast]", 'targets = ["nobody/x"]'], "'nobody'"),
    "an alias twice": (['[models."mock"]', 'targets = ["mock/mock"]', 'aliases = ["x", "x"]'], "models.mock.aliases"),
}


@pytest.mark.parametrize(("lines", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_and_changes_nothing(service, upstream, lines, problem):
    before = models(service)
    write(service.directory, *lines)

    line = hang_up(service)

    assert line["level"] == "error"
    assert any(told.startswith("ai-proxy.toml:") and problem in told for told in line["problems"])
    assert models(service) == before
    assert ask(service, "fast").status_code == 200


def test_after_a_broken_file_a_right_one_is_taken(service, upstream):
    for lines, _ in BROKEN.values():
        write(service.directory, *lines)
        hang_up(service)
    write(service.directory, table(upstream), "[models.other]", 'targets = ["x/small"]')

    line = hang_up(service)

    assert line["level"] == "info"
    assert models(service) == ["other", "small", "big"]


def test_a_secret_in_a_broken_file_is_not_told(service):
    write(service.directory, "[providers.x]", 'base_url = "nonsense"', 'api_keys = ["canary-0123456789"]')

    hang_up(service)

    assert "canary" not in (service.directory / "stdout").read_text()


def test_without_a_file_only_the_environment_counts(start, upstream, tmp_path):
    write(tmp_path, table(upstream))
    service = start(tmp_path, OPENAI_API_KEY="sk-of-the-environment", OPENAI_BASE_URL=upstream.url)
    (tmp_path / "ai-proxy.toml").unlink()

    line = hang_up(service)

    assert line["level"] == "info"
    assert ask(service, "anything").headers["x-ai-proxy-provider"] == "openai"


def test_a_server_that_began_without_a_file_finds_a_new_one(start, upstream):
    service = start(OPENAI_API_KEY="sk-x", OPENAI_BASE_URL=upstream.url)
    write(service.directory, "[models.fast]", 'targets = ["openai/small"]')

    hang_up(service)
    response = ask(service, "fast")

    assert (response.status_code, response.headers["x-ai-proxy-model"]) == (200, "small")


def listing(model: str, pause: float = 0.0):
    """A provider that has one model, and takes its time to tell so."""

    async def handle(connection) -> None:
        if connection.head.startswith("GET "):
            await asyncio.sleep(pause)
            await status(200, json.dumps({"data": [{"id": model}]}).encode())(connection)
        else:
            await (completion(model) if connection.json["model"] == model else error(404))(connection)

    return handle


def test_what_is_known_of_models_outlives_a_reload(start, upstream, tmp_path):
    with Upstream() as another:
        upstream.handler, another.handler = listing("its-own"), listing("only-there")
        write(
            tmp_path,
            *(f'[providers.{name}]\nbase_url = "{each.url}"' for name, each in (("x", upstream), ("y", another))),
        )
        service = start(tmp_path)
        service.eventually(lambda: {"its-own", "only-there"} <= set(models(service)))
        another.handler = listing("only-there", pause=1)

        hang_up(service)
        known, response = models(service), ask(service, "only-there")

    assert {"its-own", "only-there"} <= set(known)
    assert (response.status_code, response.headers["x-ai-proxy-provider"]) == (200, "y")


def test_many_signals_at_once_do_no_harm(service, upstream):
    upstream.handler = words("po", "ng")
    for number in range(20):
        write(service.directory, table(upstream), f"[models.number-{number}]", 'targets = ["x/small"]')
        service.process.send_signal(signal.SIGHUP)
        assert ask(service, "small", stream=True).text.endswith("data: [DONE]\n\n")

    service.eventually(lambda: "number-19" in models(service))

    assert {line["level"] for line in reloads(service)} == {"info"}
    assert service.stop() == 0


def test_our_own_endpoints_go_there_as_well(service, upstream):
    write(service.directory, table(upstream), "[models.other]", 'targets = ["x/big"]')

    hang_up(service)
    asked = service.ask("ping", model="other")
    upstream.handler = words("po", "ng")
    streamed = service.client.post("/api/streaming", json={"question": "ping", "model": "other"})

    assert (asked.json()["answer"], asked.json()["model"]) == ("pong", "big")
    assert [name for name, _ in events(streamed.text)] == ["start", "delta", "delta", "done"]


def test_a_file_that_nobody_can_read_does_not_end_the_obedience(service, upstream):
    write(service.directory, "x = " + "[" * 3000)
    first = hang_up(service)
    write(service.directory, table(upstream), "[models.quick]", 'targets = ["x/small"]')

    second = hang_up(service)

    assert (first["level"], second["level"]) == ("error", "info")
    assert "nested too deeply" in str(first)
    assert "quick" in models(service)


def test_a_file_that_has_gone_makes_no_mock_of_a_service_at_work(service, upstream):
    (service.directory / "ai-proxy.toml").unlink()
    upstream.handler = completion("a real answer")

    line = hang_up(service)

    assert (line["level"], line["problems"]) == (
        "error",
        ["providers: none is set up any more: set MOCK_MODE=true if the mock is meant to answer"],
    )
    assert ask(service, "small").json()["choices"][0]["message"]["content"] == "a real answer"
