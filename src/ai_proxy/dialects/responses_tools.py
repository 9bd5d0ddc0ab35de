"""Tools of the Responses wire format: as chat knows them, and back.

Source: https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
"""

from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from ai_proxy.core.exceptions import BadRequest


class Tool(msgspec.Struct, frozen=True):
    """What the caller calls a tool. A custom one takes any text, where a function takes a JSON object."""

    name: str
    namespace: str | None = None
    custom: bool = False


def chat_tools(body: dict[str, Any], *, custom_tools: bool) -> dict[str, Any]:
    """The fields of a chat request that are about tools. Raises `BadRequest`."""
    tools = {}
    for tool, fields, param in _flat(body.get("tools")):
        name = qualified(tool.name, tool.namespace)
        tools[name] = _custom(name, fields, param, custom_tools) if tool.custom else _function(name, fields, param)
    choice, allowed = _choice(body.get("tool_choice"), tools)
    chosen = [tool for name, tool in tools.items() if allowed is None or name in allowed]
    if not chosen:  # chat refuses a choice between no tools
        return {}
    parallel = body.get("parallel_tool_calls")
    return {
        "tools": chosen,
        **({} if choice is None else {"tool_choice": choice}),
        **({} if parallel is None else {"parallel_tool_calls": parallel}),
    }


def known_tools(body: dict[str, Any]) -> dict[str, Tool]:
    """The tools of a valid request, by the names that chat has for them."""
    return {qualified(tool.name, tool.namespace): tool for tool, _, _ in _flat(body.get("tools"))}


def qualified(name: str, namespace: str | None) -> str:
    """One name for a tool in a namespace, which chat does not have."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def as_arguments(text: str) -> str:
    """What a custom tool was called with, as the arguments of the function that stands for it."""
    return msgspec.json.encode({_INPUT: text}).decode()


def as_input(arguments: str) -> str:
    """The reverse of `as_arguments`. A model that does not keep to the schema is taken at its word."""
    try:
        given = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return arguments
    text = given.get(_INPUT) if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


def refuse(param: str, why: str) -> NoReturn:
    message = f"{param}: {why}"
    raise BadRequest(message, param=param)


def text_of(fields: dict[str, Any], name: str, param: str) -> str:
    """A field that must be a text."""
    value = fields.get(name)
    if not isinstance(value, str):
        refuse(f"{param}.{name}", "must be a text.")
    return value


_INPUT = "input"
_ONE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}


def _flat(tools: Any) -> Iterator[tuple[Tool, dict[str, Any], str]]:
    """Each tool with its fields and its place in the request, those in namespaces among the rest."""
    for param, fields in _objects(tools, "tools"):
        if fields.get("type") == "namespace":
            namespace = text_of(fields, "name", param)
            for inner, part in _objects(fields.get("tools"), f"{param}.tools"):
                yield _tool(part, inner, namespace), part, inner
        elif not _optional(fields):
            yield _tool(fields, param, None), fields, param


def _optional(fields: dict[str, Any]) -> bool:
    """A search of the web that is only offered: Codex does so in every request, whatever the provider.

    https://developers.openai.com/codex/config-basic (web_search). The model answers without; who forces it by
    `tool_choice` is refused.
    """
    return str(fields.get("type")).startswith("web_search")


def _objects(values: Any, param: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if values is None:
        return
    if not isinstance(values, list):
        refuse(param, "must be a list.")
    for position, value in enumerate(values):
        place = f"{param}.{position}"
        if not isinstance(value, dict):
            refuse(place, "must be an object.")
        yield place, value


def _tool(fields: dict[str, Any], param: str, namespace: str | None) -> Tool:
    kind = fields.get("type")
    if kind not in ("function", "custom"):
        shown = kind if isinstance(kind, str) else "without a type"
        refuse(
            "tools",
            f"{param} is a tool ({shown[:40]}) that only providers of the Responses API can run; the model asked for is"
            " reached by another API, which takes function and custom tools. Leave it out, or choose another model.",
        )
    return Tool(text_of(_definition(fields), "name", param), namespace, kind == "custom")


def _definition(fields: dict[str, Any]) -> dict[str, Any]:
    """Cursor nests some definitions as chat does: https://forum.cursor.com/t/159298."""
    nested = fields.get(str(fields.get("type")))
    return nested if isinstance(nested, dict) else fields


def _function(name: str, fields: dict[str, Any], param: str) -> dict[str, Any]:
    definition = _definition(fields)
    parameters = definition.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        refuse(f"{param}.parameters", "must be an object.")
    rest = {key: definition[key] for key in ("description", "parameters", "strict") if definition.get(key) is not None}
    return {"type": "function", "function": {"name": name, **rest}}


def _custom(name: str, fields: dict[str, Any], param: str, custom_tools: bool) -> dict[str, Any]:
    definition = _definition(fields)
    description, grammar = definition.get("description"), _grammar(definition, param)
    if custom_tools:
        custom: dict[str, Any] = {
            "name": name,
            "description": description,
            "format": grammar and {"type": "grammar", "grammar": grammar},
        }
        return {"type": "custom", "custom": {key: value for key, value in custom.items() if value is not None}}
    words = [description] if isinstance(description, str) else []
    if grammar:
        words.append(f"The input must follow this {grammar['syntax']} grammar:\n{grammar['definition']}")
    described = {"description": "\n\n".join(words)} if words else {}
    function: dict[str, Any] = {"name": name, **described, "parameters": _ONE_TEXT}
    return {"type": "function", "function": function}


def _grammar(definition: dict[str, Any], param: str) -> dict[str, str] | None:
    given = definition.get("format")
    if given is None or (isinstance(given, dict) and given.get("type") == "text"):
        return None
    if not isinstance(given, dict) or given.get("type") != "grammar":
        refuse(f"{param}.format", "must be of type text or grammar.")
    nested = given.get("grammar")
    fields = nested if isinstance(nested, dict) else given
    return {name: text_of(fields, name, f"{param}.format") for name in ("definition", "syntax")}


def _choice(choice: Any, tools: dict[str, dict[str, Any]]) -> tuple[Any, set[str] | None]:
    """The choice as chat knows it, and the names it is limited to, if it is."""
    if choice is None or choice in ("auto", "none"):
        return choice, None
    if choice == "required":
        return choice, _present(set(tools), tools)
    if not isinstance(choice, dict):
        refuse("tool_choice", "must be auto, none, required or an object.")
    if choice.get("type") == "allowed_tools":
        return _allowed(choice, tools)
    name = _chosen(choice, "tool_choice")
    _present({name}, tools)
    kind = tools[name]["type"]
    return {"type": kind, kind: {"name": name}}, None


def _allowed(choice: dict[str, Any], tools: dict[str, dict[str, Any]]) -> tuple[str, set[str]]:
    """Only OpenAI's chat knows this choice. To offer no other tools means the same everywhere."""
    mode = choice.get("mode", "auto")
    if mode not in ("auto", "required"):
        refuse("tool_choice.mode", "must be auto or required.")
    names = {_chosen(tool, param) for param, tool in _objects(choice.get("tools"), "tool_choice.tools")}
    return mode, _present(names, tools)


def _chosen(choice: dict[str, Any], param: str) -> str:
    if choice.get("type") not in ("function", "custom"):
        refuse("tool_choice", "a choice of a tool must be of type function or custom.")
    namespace = choice.get("namespace")
    return qualified(text_of(_definition(choice), "name", param), namespace if isinstance(namespace, str) else None)


def _present(names: set[str], tools: dict[str, dict[str, Any]]) -> set[str]:
    if not names or not names <= tools.keys():
        refuse("tool_choice", "chooses a tool that is not among the tools.")
    return names
