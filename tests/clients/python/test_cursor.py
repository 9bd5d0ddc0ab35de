"""Cursor, which cannot be installed: the body that it sends to chat completions, and how it reads the answer.

Source: https://forum.cursor.com/t/159298
"""

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

SHELL = {
    "type": "function",
    "name": "shell",
    "description": "Run a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}
BODY = {
    "model": "mock",
    "stream": True,
    "user": "someone",
    "input": [
        {"role": "system", "content": "You work in an editor."},
        {"role": "user", "content": [{"type": "input_text", "text": "ping"}]},
    ],
    "tools": [SHELL],
    "tool_choice": "auto",
    "store": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "text": {"verbosity": "low"},
    "stream_options": {"include_usage": True},
}


@pytest.fixture
def ask(client):
    def ask(**changes) -> list[ChatCompletionChunk]:
        stream = openai.Stream[ChatCompletionChunk]
        return list(
            client.post(
                "/chat/completions", body=BODY | changes, cast_to=ChatCompletionChunk, stream=True, stream_cls=stream
            )
        )

    return ask


def test_a_body_shaped_like_a_response_is_answered_in_chunks_of_chat(ask):
    *chunks, last = ask()

    assert "ping" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage.total_tokens > 0


def test_its_tools_are_called_as_those_of_chat(ask):
    chunks = ask(tool_choice="required")

    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "shell"
    assert calls[0].id


def test_what_a_tool_said_leads_to_an_answer(ask):
    said = [
        {"type": "function_call", "call_id": "call_1", "name": "shell", "arguments": '{"command": "ls"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "note.txt"},
    ]

    chunks = ask(input=BODY["input"] + said)

    assert "note.txt" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
