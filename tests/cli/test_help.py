"""What `ai-proxy` says when it is asked for help."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ai_proxy import __version__
from ai_proxy.cli import app

SOURCES = Path(__file__).parents[2] / "src"
VERBS = {
    "": "ai-proxy serve",
    "serve": "ai-proxy serve --port 9000",
    "usage": "ai-proxy usage --by key --csv",
    "audit list": "ai-proxy audit list --action login.failed",
    "keys create": "ai-proxy keys create laptop",
    "keys list": "ai-proxy keys list --json",
    "keys revoke": "ai-proxy keys revoke 01",
    "users create": "ai-proxy users create alice@example.com --admin",
    "users list": "ai-proxy users list --json",
    "users role": "ai-proxy users role alice@example.com viewer",
    "users disable": "ai-proxy users disable alice@example.com",
    "users enable": "ai-proxy users enable alice@example.com",
    "users password": "ai-proxy users password alice@example.com --generate",
    "sessions list": "ai-proxy sessions list alice@example.com --json",
    "sessions end": "ai-proxy sessions end 01",
    "sessions end-all": "ai-proxy sessions end-all alice@example.com",
    "limits set": "ai-proxy limits set user:ada --requests 60",
    "limits list": "ai-proxy limits list --json",
    "limits remove": "ai-proxy limits remove user:ada",
    "budgets set": "ai-proxy budgets set project:search month 250",
    "budgets list": "ai-proxy budgets list --json",
    "budgets remove": "ai-proxy budgets remove project:search month",
    "db upgrade": "ai-proxy db upgrade",
    "db current": "ai-proxy db current",
    "db backup": "ai-proxy db backup backup-$(date +%F).db",
    "db restore": "ai-proxy db restore backup-2026-11-23.db",
    "history list": "ai-proxy history list --status failed",
    "history show": "ai-proxy history show 01",
    "history search": "ai-proxy history search",
    "history export": "ai-proxy history export history.jsonl",
    "history import": "ai-proxy history import history.jsonl --key laptop",
    "history prune": "ai-proxy history prune --older-than 90",
    "config check": "ai-proxy config check && ai-proxy serve",
    "config show": "ai-proxy config show --json",
    "config explain": "ai-proxy config explain gpt-6-luna",
}


def said(*words: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, words)
    return result.exit_code, result.output


@pytest.mark.parametrize(("verb", "example"), VERBS.items(), ids=lambda text: text)
def test_every_verb_has_help_with_an_example(verb, example):
    code, text = said(*verb.split(), "--help")

    assert code == 0
    assert example in text.partition("Usage")[2].partition("\n")[2]


@pytest.mark.parametrize(
    "group", ["", "keys", "audit", "db", "config", "limits", "budgets", "users", "sessions", "history"]
)
def test_a_group_alone_shows_its_verbs(group):
    _, text = said(*group.split())

    expected = {verb.removeprefix(group).split()[0] for verb in VERBS if verb.startswith(group) and verb != group}
    assert expected <= set(re.findall(r"^│ ([\w-]+) ", text, re.MULTILINE))


def test_the_options_tell_their_variables_and_defaults():
    _, text = said("serve", "--help")

    assert re.search(r"--host .*\(HOST\).*127\.0\.0\.1", text)
    assert re.search(r"--port .*\(PORT\).*8000", text)


def test_without_being_installed_it_is_a_module():
    command = [sys.executable, "-m", "ai_proxy", "--version"]

    told = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=True)

    assert told.stdout == f"ai-proxy {__version__}\n"


def test_as_a_module_it_goes_by_the_name_of_the_command():
    command = [sys.executable, "-m", "ai_proxy", "--help"]

    told = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=True)

    assert "Usage: ai-proxy [OPTIONS]" in told.stdout


def test_it_tells_its_version():
    assert said("--version") == (0, f"ai-proxy {__version__}\n")


@pytest.mark.parametrize("words", [["nonsense"], ["keys", "create"], ["serve", "--port", "http"]])
def test_what_it_does_not_understand_is_a_usage_error(words):
    code, text = said(*words)

    assert code == 2
    assert "Usage: ai-proxy" in text or "Usage: root" in text
