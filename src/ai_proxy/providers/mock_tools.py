"""Which tools a mock calls for a question, and with what arguments."""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_check import Effort
from ai_proxy.providers.mock_facts import Facts, significant
from ai_proxy.providers.mock_request import ChatRequest, Function, Tool, last_text_of
from ai_proxy.providers.mock_schema import instance

_WORD = re.compile(r"\w+")
_PIECE = 12  # characters of a streamed piece of arguments
_READ = 4000  # characters of a question, or of a description, that are looked at
_MOST_CALLS = 8


class ToolCall(msgspec.Struct, frozen=True):
    """`arguments` are JSON; of a custom tool, they are its plain input."""

    identifier: str
    name: str
    arguments: str
    custom: bool = False

    def pieces(self) -> list[str]:
        return [self.arguments[start : start + _PIECE] for start in range(0, len(self.arguments), _PIECE)]


def called(request: ChatRequest) -> list[tuple[Tool, str]]:
    """The tools to call, in the order of the question, each with the part of it that is about the tool."""
    question = last_text_of(request.said[-1])[:_READ]
    tools, mode = _allowed(request)
    if mode == "none" or not tools:
        return []
    if mode == "named":
        return [(tools[0], question)]
    asked = request.said[-1].role == "user"
    mentions = _mentions(tools, question) if asked else []
    if not mentions:
        return [(tools[0], question)] if mode == "required" else []
    return mentions[:1] if request.parallel_tool_calls is False else mentions[:_MOST_CALLS]


def call(request: ChatRequest, tool: Tool, said: str, identifier: str, *, effort: Effort, turn: int) -> ToolCall:
    """A call with arguments from what is said about the tool, or else from the whole question.

    Arguments that may be left out are, unless the question has something for them.
    """
    function, question = _function(tool), last_text_of(request.said[-1])[:_READ]
    if tool.type == "custom":
        return ToolCall(identifier, function.name, said or question, custom=True)
    about = Facts(_without(function.name, said), otherwise=_without(function.name, question), turn=turn)
    schema = function.parameters if function.parameters is not None else {"type": "object"}
    schema = {"type": "object", **schema} if isinstance(schema, dict) else schema
    arguments = instance(schema, about, effort, turn=turn, sparing=True)
    return ToolCall(identifier, function.name, json.dumps(arguments, ensure_ascii=False))


def _allowed(request: ChatRequest) -> tuple[list[Tool], str]:
    """The tools that may be called, and whether one must be: none, auto, required, or named for that one alone."""
    tools, choice = request.tools or [], request.tool_choice
    for tool in tools:
        _function(tool)
    if isinstance(choice, dict):
        return _chosen(tools, choice)
    if choice not in {None, "none", "auto", "required"}:
        raise ProviderFault("tool_choice: must be none, auto, required or an object.", status=400)
    return tools, choice or "auto"


def _chosen(tools: list[Tool], choice: dict[str, Any]) -> tuple[list[Tool], str]:
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, dict) else {}
        names = {_name(entry) for entry in allowed.get("tools") or [] if isinstance(entry, dict)}
        mode = "required" if allowed.get("mode") == "required" else "auto"
        return [tool for tool in tools if _function(tool).name in names], mode
    found = [tool for tool in tools if _function(tool).name == _name(choice)]
    if not found:
        raise ProviderFault("tool_choice: names a tool that is not among the tools.", status=400)
    return found, "named"


def _name(entry: dict[str, Any]) -> str | None:
    inside = entry.get(str(entry.get("type", "function")))
    name = inside.get("name") if isinstance(inside, dict) else None
    return name if isinstance(name, str) else None


def _function(tool: Tool) -> Function:
    found = {"function": tool.function, "custom": tool.custom}.get(tool.type)
    if found is None:
        raise ProviderFault("tools: each must be a function or a custom tool, with a name.", status=400)
    return found


def _mentions(tools: list[Tool], question: str) -> list[tuple[Tool, str]]:
    """The tools whose names the question has; else those with whose names, or descriptions, it shares a word."""
    for find in (_name_in, _word_of_name_in, _word_of_description_in):
        places = sorted(_places(tools, question, find), key=lambda place: place[0])
        ends = [start for start, _ in places[1:]] + [len(question)]
        if places:
            return [(tool, question[start:end]) for (start, tool), end in zip(places, ends, strict=True)]
    return []


def _places(tools: list[Tool], question: str, find: Callable[[Function, str], int]) -> list[tuple[int, Tool]]:
    text = question.casefold()
    return [(place, tool) for tool in tools if (place := find(_function(tool), text)) >= 0]


def _name_in(function: Function, text: str) -> int:
    name = re.escape(function.name.casefold())
    return _first([rf"(?<!\w){name}(?!\w)", rf"(?<!\w){name.replace('_', ' ')}(?!\w)"], text)


def _word_of_name_in(function: Function, text: str) -> int:
    return _word_in(re.sub(r"([a-z])([A-Z])", r"\1 \2", function.name).replace("_", " "), text)


def _word_of_description_in(function: Function, text: str) -> int:
    return _word_in((function.description or "")[:_READ], text)


def _word_in(about: str, text: str) -> int:
    stems = {word.casefold().removesuffix("s") for word in significant(about)}
    if not stems:
        return -1
    return next((word.start() for word in _WORD.finditer(text) if word[0].removesuffix("s") in stems), -1)


def _first(patterns: list[str], text: str) -> int:
    return min((found.start() for pattern in patterns if (found := re.search(pattern, text))), default=-1)


def _without(name: str, text: str) -> str:
    """The tool's own name is no argument of it."""
    return text.replace(name, " ")
