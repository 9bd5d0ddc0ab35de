"""Settings, as they reach a process: wrong ones stop the start, .env is read, the mock steps in."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service import AI_PROXY, Service, environment, free_port

SOURCE = Path(__file__).parents[2] / "src"
SERVE = (AI_PROXY, "serve")
UVICORN = (str(Path(sys.executable).parent / "uvicorn"), "main:ozon_app", "--port", str(free_port()))

WRONG = [
    (SERVE, {"AI_PROXY_UPSTREAM__TOTAL_TIMEOUT": "abc"}, "AI_PROXY_UPSTREAM__TOTAL_TIMEOUT"),
    (SERVE, {"PORT": "99999"}, "PORT"),
    (SERVE, {"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
    (SERVE, {"AI_PROXY_API_KEY": "a-short-canary"}, "AI_PROXY_API_KEY"),
    (SERVE, {"MOCK_MODE": "false"}, "MOCK_MODE"),
    (SERVE, {"AI_PROXY_CONFIG": "nowhere.toml"}, "AI_PROXY_CONFIG"),
    ((AI_PROXY, "config", "check"), {"PORT": "99999"}, "PORT"),
    ((*SERVE, "--port", "-1"), {}, "PORT"),
    (UVICORN, {"AI_PROXY_API_KEY": "a-short-canary"}, "AI_PROXY_API_KEY"),
    (UVICORN, {"MOCK_MODE": "false"}, "MOCK_MODE"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each of the wrong settings leads to. They are tried at the same time."""

    def attempt(case, directory):
        command, settings, _ = case
        settings = {"DATABASE_URL": f"sqlite:///{directory}/data/x.db", **settings}
        done = subprocess.run(
            command,
            check=False,
            cwd=SOURCE if command is UVICORN else directory,
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, sorted(directory.iterdir())

    directories = [tmp_path_factory.mktemp("wrong") for _ in WRONG]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(attempt, WRONG, directories))


@pytest.mark.parametrize(
    ("number", "variable"),
    [(number, variable) for number, (_, _, variable) in enumerate(WRONG)],
    ids=[f"{command[0].rpartition('/')[2]} {variable}" for command, _, variable in WRONG],
)
def test_a_wrong_value_stops_the_start_with_one_line(outcomes, number, variable):
    done, left_behind = outcomes[number]

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("ai-proxy: ")
    assert len(done.stderr.splitlines()) == 1
    assert variable in done.stderr
    assert "canary" not in done.stderr
    assert left_behind == []


def test_an_address_that_is_taken_stops_the_start(mocked, tmp_path):
    service = Service(tmp_path, PORT=mocked.port)

    done = subprocess.run(
        service.command,
        check=False,
        cwd=tmp_path,
        env=environment(**service.settings),
        capture_output=True,
        text=True,
        timeout=30,
    )

    service.client.close()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ai-proxy: cannot listen on ")
    assert len(done.stderr.splitlines()) == 1
    assert mocked.ask().status_code == 200


def test_the_file_of_the_working_directory_is_read(tmp_path):
    service = Service(tmp_path)
    file = [f"{name}={value}" for name, value in service.settings.items()]
    (tmp_path / ".env").write_text("\n".join([*file, "AI_PROXY_DEFAULT_MODEL=model-of-the-file", "OPENAI_API_KEY="]))
    service.settings = {}

    answer = service.start().ask()
    code = service.stop()

    service.client.close()
    assert (answer.status_code, answer.json()["model"], answer.json()["mock"]) == (200, "model-of-the-file", True)
    assert code == 0


def test_the_mock_steps_in_even_where_there_are_keys(scripted_pair, start):
    _, upstream = scripted_pair
    upstream.connections.clear()
    service = start(OPENAI_API_KEY="sk-1", OPENAI_BASE_URL=upstream.url, MOCK_MODE="true")

    answer = service.ask().json()

    assert (answer["provider"], answer["mock"]) == ("mock", True)
    assert upstream.connections == []
    assert "Mock mode: unset MOCK_MODE for real answers." in service.stderr()
