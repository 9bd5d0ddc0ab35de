"""Codex: its command line, without a person."""

import json
import sys
from pathlib import Path

import pytest

CODEX = str(Path(sys.prefix) / "node_modules" / ".bin" / "codex")


@pytest.fixture
def codex(run, home):
    def codex(*arguments: str) -> list[dict]:
        printed = run(CODEX, "exec", "--skip-git-repo-check", "--json", *arguments, HOME=str(home))
        return [json.loads(line) for line in printed.splitlines()]

    return codex


def items(events: list[dict], kind: str) -> list[dict]:
    return [event["item"] for event in events if event["type"] == "item.completed" and event["item"]["type"] == kind]


def test_a_question_is_answered_and_its_tokens_are_counted(codex):
    *before, completed = codex("ping")

    (answer,) = items(before, "agent_message")
    assert "ping" in answer["text"]
    assert completed["type"] == "turn.completed"
    assert completed["usage"]["input_tokens"] > 1000
    assert completed["usage"]["output_tokens"] > 0


def test_a_command_is_run_and_its_output_leads_to_an_answer(codex, home):
    note = "forty-two, or thereabouts, as far as anybody can tell"
    (home / "note.txt").write_text(note)

    # The mock calls the tool that is named, with what stands in quotes; so nothing else can be run.
    events = codex("--sandbox", "danger-full-access", "Use exec_command: `cat note.txt`")

    (command,) = items(events, "command_execution")
    (answer,) = items(events, "agent_message")
    assert command["exit_code"] == 0
    assert note in answer["text"]
