"""Claude Code: its command line, without a person."""

import json
import sys
from pathlib import Path

import pytest

CLAUDE = str(Path(sys.prefix) / "node_modules" / ".bin" / "claude")


@pytest.fixture
def claude(run, home, url, key):
    def claude(*arguments: str) -> dict:
        environment = {
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        return json.loads(run(CLAUDE, "--model", "mock", "--output-format", "json", *arguments, **environment))

    return claude


def test_a_question_is_answered_and_its_tokens_are_counted(claude):
    answer = claude("--print", "ping", "--tools", "")

    assert answer["is_error"] is False
    assert "ping" in answer["result"]
    assert answer["usage"]["input_tokens"] > 100
    assert answer["usage"]["output_tokens"] > 0


def test_a_file_is_read_as_it_is(claude, home):
    (home / "note.txt").write_text("one\ntwo\nthree")

    answer = claude("--print", f"Use Read: `{home}/note.txt`", "--tools", "Read", "--allowedTools", "Read")

    assert answer["num_turns"] == 2
    assert all(word in answer["result"] for word in ("one", "two", "three"))


def test_a_tool_is_used_and_its_result_leads_to_an_answer(claude, home):
    # The mock calls the tool that is named, with what stands in quotes.
    question = f"Use Write: `{home}/note.txt` `violet`"

    answer = claude("--print", question, "--tools", "Write", "--allowedTools", "Write")

    assert (home / "note.txt").read_text() == "violet"
    assert answer["num_turns"] == 2
    assert "The tool said: File created" in answer["result"]
